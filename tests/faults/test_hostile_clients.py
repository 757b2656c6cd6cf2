"""A user with a good token and a script: whatever it says, strangers are let in and served as before."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
import websockets
from websockets.frames import Frame, Opcode

from bench.measure import percentile
from cli.tokens import make_token
from proof.cluster import Cluster
from proof.experiment import Run, experiment
from proof.history import AnyEvent, Entry, Fault, Produce, read
from tests.faults.conftest import MakeCluster

CLIENTS: Final = 100
HOSTILE: Final = "mallory"
LOG: Final = "inbox/normal"
BACKLOG: Final = 2_000  # entries of the hostile user, to ask for again and again
JOINS: Final = 40
NOISE: Final = 0.05  # s; what a busy machine may add to a percentile
FULL: Final = 256 * 1024  # bytes that a flooder keeps ready

pytestmark = pytest.mark.alone


def framed(said: str, opcode: Opcode = Opcode.TEXT) -> bytes:
    return Frame(opcode, said.encode()).serialize(mask=True)


ACKS: Final = framed(json.dumps({"type": "ack", "log": LOG, "seq": 1})) * 1_000
SYNC: Final = json.dumps({"type": "sync", "log": LOG, "after": 0})
GARBAGE: Final = framed("{") * 1_000 + framed("", Opcode.PING) * 1_000


class Mallory:
    """Does what a script can, over and over, until the context ends."""

    def __init__(self, cluster: Cluster) -> None:
        self._url = f"{cluster.gateway}/ws"
        self._secret = cluster.secret
        self._numbers = count()
        self._begun: list[asyncio.StreamWriter] = []
        self.refused = 0

    def url(self) -> str:
        """Return the URL of a new device."""
        return f"{self._url}?token={make_token(self._secret, HOSTILE, device=f'd{next(self._numbers)}')}"

    async def __aenter__(self) -> "Mallory":
        ways = [self._acks, self._acks, self._garbage, self._syncs, self._syncs, self._joins]
        self._tasks = [asyncio.create_task(self._for_ever(way)) for way in ways]
        self._tasks.append(asyncio.create_task(self._begins()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._begun:
            writer.close()

    async def _for_ever(self, way: Callable[[Any], Awaitable[None]]) -> None:
        while True:
            try:
                async with websockets.connect(self.url(), ping_interval=None, max_queue=None) as socket:
                    if not await self._welcomed(socket):
                        continue
                    reading = asyncio.create_task(self._read(socket))
                    try:
                        await way(socket)
                    finally:
                        reading.cancel()
            except (websockets.ConnectionClosed, OSError, TimeoutError):
                continue

    async def _welcomed(self, socket: Any) -> bool:
        try:
            await asyncio.wait_for(socket.recv(), 10)
        except websockets.ConnectionClosed:
            self.refused += 1
            await asyncio.sleep(0.05)
            return False
        return True

    async def _read(self, socket: Any) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for _ in socket:
                pass

    async def _flood(self, socket: Any, data: bytes) -> None:
        while not socket.transport.is_closing():
            if socket.transport.get_write_buffer_size() < FULL:
                socket.transport.write(data)
            await asyncio.sleep(0.01)

    async def _acks(self, socket: Any) -> None:
        await self._flood(socket, ACKS)

    async def _garbage(self, socket: Any) -> None:
        await self._flood(socket, GARBAGE)

    async def _syncs(self, socket: Any) -> None:
        while True:
            await socket.send(SYNC)
            await asyncio.sleep(0.03)

    async def _joins(self, socket: Any) -> None:
        """Leave at once."""

    async def _begins(self) -> None:
        """Send requests that never end."""
        host, _, port = self._url.removeprefix("ws://").partition("/")[0].partition(":")
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /ws HTTP/1.1\r\nX: " + b"x" * 1_000)
                self._begun.append(writer)
            await asyncio.sleep(0.05)


def latencies(events: list[AnyEvent]) -> dict[bool, list[float]]:
    """Return s from the producer to a screen, by whether the hostile user was at it."""
    asked: dict[str, tuple[float, bool]] = {}
    found: dict[bool, list[float]] = {False: [], True: []}
    fault = False
    for event in events:
        match event:
            case Fault():
                fault = event.phase == "begin"
            case Produce():
                asked[event.id] = (event.at, fault)
            case Entry(shown=True):
                at, during = asked[event.id]
                found[during].append(event.at - at)
    return found


async def joins(cluster: Cluster, name: str) -> float:
    """Return the p95 of what strangers wait for their `welcome`, s."""
    waited: list[float] = []
    for number in range(JOINS):
        token = make_token(cluster.secret, f"{name}-{number}")
        begun = time.monotonic()
        async with websockets.connect(f"{cluster.gateway}/ws?token={token}", ping_interval=None) as socket:
            async with asyncio.timeout(10):
                assert json.loads(await socket.recv())["type"] == "welcome"
            waited.append(time.monotonic() - begun)
    return percentile(waited, 0.95)


@contextlib.asynccontextmanager
async def hostile(run: Run) -> AsyncIterator[Mallory]:
    async with run.fault("a hostile user"), Mallory(run.cluster) as mallory:
        yield mallory


async def test_a_hostile_user_holds_up_nobody(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=1, gateways=1) as running,
        experiment(
            running, "hostile-user", out=out, users=CLIENTS, devices=("phone",), rate=150, seconds=50, at_least=5_000
        ) as run,
    ):
        for _ in range(BACKLOG):
            run.load.send(HOSTILE, body="x" * 200)
        await run.progress(3_000)
        quiet = await joins(running, "quiet")
        async with hostile(run) as mallory:
            await run.progress(1_000)
            noisy = await joins(running, "noisy")
            await run.progress(2_000)
        assert mallory.refused, "nobody was turned away"
        reached = {
            limit: await running.metric("gateway-0", f'tocsin_limited_total{{limit="{limit}"}}')
            for limit in ("user_connections", "user_reads", "user_entries", "session_frames")
        }
        assert await running.metric("gateway-0", "tocsin_sessions_failed_total") == 0
        run.notes |= {"join": round(quiet, 3), "join then": round(noisy, 3), **reached}
    assert all(reached.values()), reached
    assert noisy <= 2 * quiet + NOISE, f"strangers wait {noisy * 1000:.0f} ms for `welcome`, {quiet * 1000:.0f} before"
    found = latencies(list(read(run.history.path)))
    before, then = (percentile(found[during], 0.99) for during in (False, True))
    assert then <= 2 * before + NOISE, f"p99 of the others: {before * 1000:.0f} ms before, {then * 1000:.0f} ms then"
