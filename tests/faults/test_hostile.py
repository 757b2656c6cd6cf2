"""Users who do odd things on purpose: strangers must not be held up by them (experiments 25 to 29 of the fault matrix).

In each the strangers are measured first in quiet, then while one user does the worst that a logged-in user can do, or
while something of one user is broken: how long their notifications take, and how long new sessions wait for `welcome`.
"""

import asyncio
import contextlib
import itertools
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import websockets

from bench.measure import percentile
from cli.tokens import make_token
from proof.cluster import Cluster
from proof.experiment import Run, experiment
from proof.history import AnyEvent, Entry, Fault, Produce, read
from schemas.rows import Cursor
from store.urls import open_store
from tests.faults.conftest import MakeCluster
from tests.faults.mutant import BAD_USER

STRANGERS: Final = 100
RATE: Final = 150.0  # notifications a second to strangers
PHASE: Final = 12.0  # s that each of the two phases lasts
NOISE: Final = 0.05  # s; what a busy machine may add to a percentile
JOIN_EVERY: Final = 0.1  # s
SESSIONS: Final = 20  # of the hostile user
DEVICES: Final = 100_000
BACKLOG: Final = 4_000  # entries that wait for the hostile user
HOSTILE: Final = "mallory"

Mischief = Callable[[Run, Cluster], Awaitable[None]]


class Joins:
    """How long strangers waited for `welcome`, s, in quiet and during the mischief."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._numbers = itertools.count()
        self.during = False
        self.waited: dict[bool, list[float]] = {False: [], True: []}

    async def go_on(self) -> None:
        """Let one stranger after the other come and go, until cancelled."""
        while True:
            during, began = self.during, time.monotonic()
            async with connected(self._cluster, f"passer-by-{next(self._numbers)}") as socket:
                await welcomed(socket)
                self.waited[during].append(time.monotonic() - began)
            await asyncio.sleep(JOIN_EVERY)  # the pace of the strangers


@contextlib.asynccontextmanager
async def connected(cluster: Cluster, user: str, device: str = "phone", query: str = "") -> AsyncIterator[Any]:
    token = make_token(cluster.secret, user, device=device)
    url = f"{cluster.gateway}/ws?token={token}{query}"
    async with websockets.connect(url, compression=None, open_timeout=60, max_queue=None) as socket:
        yield socket


async def welcomed(socket: Any) -> None:
    async with asyncio.timeout(60):
        while json.loads(await socket.recv())["type"] != "welcome":
            pass


@contextlib.asynccontextmanager
async def beside(*works: Awaitable[None]) -> AsyncIterator[None]:
    """Let works go on for the time of the context; what ends them early ends the experiment."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def latencies(events: Sequence[AnyEvent]) -> dict[bool, list[float]]:
    """Return how long notifications took to strangers' screens, s, in quiet and during the fault."""
    asked: dict[str, tuple[float, bool]] = {}
    fault = False
    found: dict[bool, list[float]] = {False: [], True: []}
    for event in events:
        match event:
            case Fault():
                fault = event.phase == "begin"
            case Produce() if event.user != HOSTILE:
                asked[event.id] = (event.at, fault)
            case Entry(shown=True) if event.id in asked:
                at, during = asked[event.id]
                found[during].append(event.at - at)
    return found


def held_up(what: str, quiet: Sequence[float], during: Sequence[float]) -> str | None:
    """Return by how much strangers were held up, if they were."""
    before, then = percentile(quiet, 0.99), percentile(during, 0.99)
    if then <= 2 * before + NOISE:
        return None
    return f"strangers were held up: {what} {before * 1000:.0f} ms in quiet (p99), {then * 1000:.0f} ms then"


async def measured(run: Run, cluster: Cluster, mischief: Mischief) -> None:
    """Measure strangers in quiet and during the mischief. Raises `AssertionError` if they are held up."""
    joins = Joins(cluster)
    async with beside(joins.go_on()):
        await asyncio.sleep(PHASE)  # the quiet phase itself
        async with run.fault("mischief"), beside(mischief(run, cluster)):
            joins.during = True
            await asyncio.sleep(PHASE)  # the phase of the mischief itself
    run.notes["joins"] = {name: len(joins.waited[during]) for name, during in (("quiet", False), ("mischief", True))}
    assert not cluster.exits, f"strangers were held up: a process ended: {cluster.exits}"
    seen = latencies(list(read(run.history.path)))
    for what, waited in (("joins", joins.waited), ("notifications", seen)):
        assert min(len(waited[False]), len(waited[True])) >= 20, f"too few {what} to tell: strangers were held up"
        run.notes[what] = {
            "quiet": round(percentile(waited[False], 0.99), 4),
            "mischief": round(percentile(waited[True], 0.99), 4),
        }
        assert (found := held_up(what, waited[False], waited[True])) is None, found


@contextlib.asynccontextmanager
async def strangers(cluster: Cluster, name: str, out: Path) -> AsyncIterator[Run]:
    async with experiment(
        cluster, name, out=out, users=STRANGERS, devices=("phone",), rate=RATE, seconds=2 * PHASE, at_least=2_000,
        throughout=True, judge=False, owes=lambda device, _id: device.user != HOSTILE,
    ) as run:  # fmt: skip
        yield run


async def a_backlog(run: Run) -> None:
    """Let entries wait for the hostile user, who has no device of the experiment."""
    for number in range(BACKLOG):
        run.load.send(HOSTILE, body="x" * 200)
        if number % 200 == 199:
            await run.load.settle()


# -- what the hostile user does ----------------------------------------------------------------------------------------


async def syncs_without_pause(_run: Run, cluster: Cluster) -> None:
    """Each session asks for everything from the beginning, again and again, and reads what comes."""

    async def ask(number: int) -> None:
        while True:
            with contextlib.suppress(websockets.ConnectionClosed, websockets.InvalidStatus, TimeoutError):
                async with connected(cluster, HOSTILE, f"d{number}") as socket:
                    await welcomed(socket)
                    while True:
                        for log in ("inbox/normal", "inbox/bulk", "inbox/critical"):
                            await socket.send(json.dumps({"type": "sync", "log": log, "after": 0, "limit": 1000}))
                        async with asyncio.timeout(0.02):
                            await socket.recv()
            await asyncio.sleep(0.05)  # what a script would wait before it comes back

    await asyncio.gather(*(ask(number) for number in range(SESSIONS)))


async def acks_every_entry(_run: Run, cluster: Cluster) -> None:
    """Each session says `ack` and `read` as fast as it can."""

    async def acknowledge(number: int) -> None:
        while True:
            with contextlib.suppress(websockets.ConnectionClosed, websockets.InvalidStatus, TimeoutError):
                async with connected(cluster, HOSTILE, f"d{number}") as socket:
                    await welcomed(socket)
                    for seq in itertools.cycle(range(1, BACKLOG)):
                        await socket.send(json.dumps({"type": "ack", "log": "inbox/normal", "seq": seq}))
                        await socket.send(json.dumps({"type": "read", "log": "inbox/normal", "seq": seq}))
            await asyncio.sleep(0.05)  # what a script would wait before it comes back

    await asyncio.gather(*(acknowledge(number) for number in range(SESSIONS)))


async def comes_with_new_devices(run: Run, cluster: Cluster) -> None:
    """Each connection is another device, and the user is sent notifications meanwhile."""

    async def come(first: int) -> None:
        for number in itertools.count(first, SESSIONS):
            with contextlib.suppress(websockets.ConnectionClosed, websockets.InvalidStatus, TimeoutError, OSError):
                async with connected(cluster, HOSTILE, f"new-{number}-{'x' * 40}") as socket:
                    await welcomed(socket)
            run.load.send(HOSTILE)
            await asyncio.sleep(0.01)  # what a script would wait before it comes back

    await asyncio.gather(*(come(number) for number in range(SESSIONS)))


async def comes_and_goes(_run: Run, cluster: Cluster) -> None:
    """The user's sessions come, ask for what they lack, and go, again and again."""

    async def come(number: int) -> None:
        while True:
            with contextlib.suppress(websockets.ConnectionClosed, websockets.InvalidStatus, TimeoutError, OSError):
                async with connected(cluster, HOSTILE, f"d{number}") as socket, asyncio.timeout(2):
                    await socket.send(json.dumps({"type": "ping"}))
                    await socket.send(json.dumps({"type": "sync", "log": "inbox/normal", "after": 0}))
                    while True:
                        await socket.recv()
            await asyncio.sleep(0.02)  # what a script would wait before it comes back

    await asyncio.gather(*(come(number) for number in range(SESSIONS)))


# -- what is there before ----------------------------------------------------------------------------------------------


async def many_devices(cluster: Cluster) -> None:
    """Let the store know 100,000 devices of the hostile user, as if they had come over months."""
    store = open_store(cluster.environment({}, direct=True)["TOCSIN_STORE"])
    await store.open()
    try:
        for first in range(0, DEVICES, 5_000):
            devices = range(first, first + 5_000)
            await store.put_cursors([Cursor(HOSTILE, "inbox/normal", f"d{n}", 1, 0) for n in devices])
    finally:
        await store.close()


async def unreadable_rows(cluster: Cluster) -> None:
    """Let the rows of the hostile user be such that the store cannot give them."""
    path = cluster.folder / "tocsin.db"
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
        changed = database.execute(
            "UPDATE log_rows SET key = CAST(x'ff' AS TEXT) WHERE log = ?", (f"inbox/normal/{HOSTILE}",)
        ).rowcount
    assert changed >= BACKLOG


# -- the experiments ---------------------------------------------------------------------------------------------------


@pytest.mark.alone
async def test_a_user_who_syncs_without_pause_holds_up_nobody(cluster: MakeCluster, out: Path) -> None:
    async with cluster(store="sqlite") as running, strangers(running, "hostile-syncs", out) as run:
        await a_backlog(run)
        await measured(run, running, syncs_without_pause)


@pytest.mark.alone
async def test_a_user_who_acknowledges_without_pause_holds_up_nobody(cluster: MakeCluster, out: Path) -> None:
    async with cluster(store="sqlite") as running, strangers(running, "hostile-acks", out) as run:
        await a_backlog(run)
        await measured(run, running, acks_every_entry)


@pytest.mark.alone
async def test_a_user_with_100_000_devices_holds_up_nobody(cluster: MakeCluster, out: Path) -> None:
    async with cluster(store="sqlite") as running, strangers(running, "hostile-devices", out) as run:
        await many_devices(running)
        await measured(run, running, comes_with_new_devices)


@pytest.mark.alone
async def test_a_user_whose_rows_cannot_be_read_holds_up_nobody(cluster: MakeCluster, out: Path) -> None:
    async with cluster(store="sqlite") as running, strangers(running, "hostile-rows", out) as run:
        await a_backlog(run)
        await run.progress(200)
        await unreadable_rows(running)
        await measured(run, running, comes_and_goes)


@pytest.mark.alone
async def test_a_user_whose_sessions_fail_inside_the_gateway_holds_up_nobody(cluster: MakeCluster, out: Path) -> None:
    assert HOSTILE == BAD_USER
    async with (
        cluster(store="sqlite", mutant="session_fails_for_a_user") as running,
        strangers(running, "hostile-session", out) as run,
    ):
        await measured(run, running, comes_and_goes)
