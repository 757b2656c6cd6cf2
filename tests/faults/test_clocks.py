"""Clocks that are wrong by an hour and step back: experiment 14 of the fault matrix.

`faketime` has to be there (`make faults` installs it).
"""

import asyncio
import time
from pathlib import Path

import jwt
import pytest

from cli.tokens import make_token
from gateway.codes import BAD_TOKEN
from proof.experiment import experiment
from tests.faults.clocks import LIBRARY, MUTANT, Clock
from tests.faults.conftest import MakeCluster

HOUR = 3_600.0  # s


async def answer(port: int, token: str) -> int:
    """Return the code with which the gateway closes a connection at once; 0: it does not, the token is good."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /ws?token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    frame = await reader.readexactly(4)  # the head of a close and its code, or the begin of `welcome`
    writer.close()
    return int.from_bytes(frame[2:], "big") if frame[0] == 0x88 else 0


@pytest.mark.skipif(not LIBRARY.exists(), reason=f"needs Debian's package faketime: there is no {LIBRARY}")
async def test_clocks_an_hour_wrong_and_stepping_back_change_no_order_and_lose_nothing(
    cluster: MakeCluster, out: Path, tmp_path: Path
) -> None:
    clocks = {name: Clock(tmp_path / f"{name}.clock") for name in ("worker-0", "worker-1", "gateway-0")}
    async with cluster(workers=0, gateways=0, instances=False) as running:
        for name, clock in clocks.items():
            await running.up(name, mutant=MUTANT, **clock.settings)
        await running.ready()
        async with experiment(
            running, "clocks", out=out, rate=180, seconds=60, at_least=10_000, throughout=True
        ) as run:
            devices = run.devices.swarm.devices

            for ahead, behind in (("worker-0", "worker-1"), ("worker-1", "worker-0")):
                async with run.fault(f"{ahead} is an hour ahead, {behind} an hour behind"):
                    await clocks[ahead].set("+1h")
                    await clocks[behind].set("-1h")
                await run.progress(500)
                for name in (ahead, behind):  # each partition goes to a claimant whose clock is behind the owner's
                    async with run.fault(f"kill -9 {name}"):
                        await running.kill(name)
                    await running.owned()
                    run.load.send("u1", expires_in=HOUR / 2)  # expired, to a worker that is ahead
                    await run.progress(500)

            # `valid` says when it was issued, which may not be in the gateway's future; `stale` does not say
            valid = make_token(running.secret, "u1", ttl=600)
            stale = jwt.encode({"sub": "u1", "exp": time.time() - HOUR / 2}, running.secret, algorithm="HS256")
            async with run.fault("the gateway is an hour behind"):
                await clocks["gateway-0"].set("-1h")
                assert (await answer(running.port, valid), await answer(running.port, stale)) == (BAD_TOKEN, 0)
                await run.progress(500)
            async with run.fault("the gateway is an hour ahead"):
                await clocks["gateway-0"].set("+1h")
                assert (await answer(running.port, valid), await answer(running.port, stale)) == (BAD_TOKEN, BAD_TOKEN)
                await run.progress(500)  # sessions that are open stay open: their end was counted by a steady clock
                for device in devices:
                    device.cut()
                closes = run.devices.swarm.closes
                refused = closes.get(BAD_TOKEN, 0)
                await run.wait(lambda: closes.get(BAD_TOKEN, 0) > refused + len(devices), "devices are refused")
                await clocks["gateway-0"].set("+0")
            assert (await answer(running.port, valid), await answer(running.port, stale)) == (0, BAD_TOKEN)
            await run.wait(lambda: all(device.welcomed for device in devices), "all devices are back")
