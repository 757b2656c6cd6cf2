"""Gateways that die: experiment 10 of the fault matrix."""

from pathlib import Path

from proof.experiment import experiment
from tests.faults.conftest import MakeCluster

CLIENTS = 1_000
RECONNECT = 10.0  # s; p99


async def test_1000_clients_of_killed_gateways_come_back_and_lack_nothing(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=1, gateways=2) as running,
        experiment(
            running, "gateway-killed", out=out, users=CLIENTS, devices=("phone",), rate=260, seconds=42, at_least=10_000
        ) as run,
    ):
        devices = run.devices.swarm.devices
        for name in running.gateways:  # each has about half of the clients
            await run.progress(500)
            async with run.fault(f"kill -9 {name}"):
                await running.kill(name)
            await run.wait(lambda: not all(device.welcomed for device in devices), "clients notice")
            await run.wait(lambda: all(device.welcomed for device in devices), "all clients are back")
            await running.ready(name)
        assert run.devices.swarm.reconnects >= CLIENTS
    assert run.result is not None
    assert run.result.reconnect_p99 <= RECONNECT
