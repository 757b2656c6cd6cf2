"""One experiment: load and devices on a cluster, faults on purpose, then the verdict.

    async with experiment(cluster, "worker-killed", users=50, rate=300, seconds=30) as run:
        for _ in range(20):
            await run.progress(200)                    # until 200 more entries were shown
            async with run.fault("kill -9 worker"):    # noted in the history, with its begin and end
                await cluster.kill("worker-0")

While the body runs, records are produced at `rate` a second to `users` on three lanes, and each user has the `devices`.
After the body the load runs to its end, and devices get `bound` s from then on to show all that Kafka has acknowledged
(more while something still arrives, so that what is late is told from what is lost).
Then statuses and dead letters are read, the history is closed, and the checker and the judge decide. `experiment`
raises `AssertionError` with the counter-example if a promise was broken, if fewer than `at_least` operations were
acknowledged, or if after some fault recovery took longer than `bound`.

`run.more` produces beside the steady load for a while, `run.load` sends single records (`run.load.send(user, lane,
device=…, expires_in=…)`, `run.load.poison`),
`run.devices.join` brings more devices (`late=True` if others of the user were there before),
`run.devices.swarm.devices` are the devices (`device.cut()`, `not_reading(device)`), `run.wait` waits for a condition,
`run.watching` has memory and descriptors of the processes over the whole run (see `proof.watching`),
`run.report` is the verdict once the context has ended, and `run.notes` are figures of the experiment's own that go into
its line of results.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.device import Device
from bench.measure import percentile
from proof import judge as judging
from proof.checker import check
from proof.cluster import Cluster
from proof.devices import SILENCE, Devices
from proof.history import Fault, History, read
from proof.load import Load
from proof.outcome import read_outcome
from proof.recovery import Recoveries
from proof.report import Report
from proof.watching import Watching

LANES: Final[Mapping[str, float]] = {"normal": 0.8, "critical": 0.1, "bulk": 0.1}  # shares of the load
_LOOK_EVERY: Final = 0.05  # s
_QUIET: Final = 10.0  # s in which nothing arrives, after which nothing more is waited for


class Result(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of results.jsonl; seconds, and counts."""

    experiment: str
    operations: int
    acknowledged: int
    unknown: int
    shown: int
    lost: int
    repeats: int
    violations: int
    recovery: float  # the longest
    settled: float = 0.0  # from the end of the load until everything was shown
    reconnect_p99: float
    judge: str
    seconds: float
    notes: dict[str, Any] = {}


class Run:
    """An experiment that runs; see the module."""

    def __init__(self, name: str, cluster: Cluster, history: History, load: Load, devices: Devices) -> None:
        self.name = name
        self.cluster = cluster
        self.history = history
        self.load = load
        self.devices = devices
        self.watching = Watching(cluster)
        self.notes: dict[str, Any] = {}
        self.settled = 0.0  # s from the end of the load until everything was shown
        self.report: Report | None = None
        self.result: Result | None = None

    @contextlib.asynccontextmanager
    async def fault(self, name: str) -> AsyncIterator[None]:
        """Note that a fault begins and, at the end of the context, that it is over and recovery begins."""
        self.history.add(Fault(at=self.history.now(), name=name))
        try:
            yield
        finally:
            self.history.add(Fault(at=self.history.now(), name=name, phase="end"))

    @contextlib.asynccontextmanager
    async def more(self, rate: float, users: Sequence[str], lane: str) -> AsyncIterator[None]:
        """Produce `rate` records a second to a lane beside the steady load, for the time of the context."""
        task = asyncio.create_task(self.load.steady(rate, math.inf, users, {lane: 1.0}))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def progress(self, entries: int, within: float = 60.0) -> None:
        """Return when so many more entries were shown by all devices together. Raises `TimeoutError`."""
        aim = self.devices.swarm.received + entries
        await self.wait(lambda: self.devices.swarm.received >= aim, f"{entries} more entries are shown", within)

    async def wait(self, condition: Callable[[], bool], what: str, within: float = 60.0) -> None:
        """Return when a condition holds. Raises `TimeoutError` that says what did not become true."""
        end = time.monotonic() + within
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name}: after {within:.0f} s it is not true that {what}")
            await asyncio.sleep(_LOOK_EVERY)

    async def until_all_shown(self, within: float, owes: Callable[[Device, str], bool]) -> bool:
        """Return whether within so many seconds all devices have shown all that they are owed."""
        return await self._until_shown(within, owes, patient=False)

    async def settle(self, within: float, owes: Callable[[Device, str], bool]) -> bool:
        """Do the same, beyond `within` s while something still arrives; `settled` says how long it took."""
        begin = time.monotonic()
        shown = await self._until_shown(within, owes, patient=True)
        self.settled = time.monotonic() - begin if shown else 0.0  # the checker says what is missing
        return shown

    async def _until_shown(self, within: float, owes: Callable[[Device, str], bool], *, patient: bool) -> bool:
        end, received = time.monotonic() + within, self.devices.swarm.received
        while any(owes(device, id_) for device, id_ in self.devices.lacking(self.load)):
            await asyncio.sleep(_LOOK_EVERY * 4)
            if patient and self.devices.swarm.received > received:
                received, end = self.devices.swarm.received, max(end, time.monotonic() + _QUIET)
            if time.monotonic() > end:
                return False
        return True

    async def until_late_are_at_the_head(self, within: float) -> None:
        """Return when late devices are as far as the others of their users, or time is up; the checker decides."""
        with contextlib.suppress(TimeoutError):
            await self.wait(lambda: not self.devices.behind(), "late devices are at the head", within)


@contextlib.asynccontextmanager
async def experiment(
    cluster: Cluster,
    name: str,
    *,
    out: Path | None = None,
    users: int | Sequence[str] = 50,
    devices: Sequence[str] = ("phone", "web"),
    rate: float = 300.0,
    seconds: float = 20.0,
    lanes: Mapping[str, float] = LANES,
    late: int = 0,
    cuts: float = 0.0,
    bound: float = 30.0,
    at_least: int = 1,
    patience: float = 10.0,
    silence: float = SILENCE,
    throughout: bool = False,
    judge: bool = judging.available(),
    owes: Callable[[Device, str], bool] = lambda _device, _id: True,
) -> AsyncIterator[Run]:
    """Run an experiment; see the module.

    `out`: the folder of histories and results (the cluster's own folder if it is None); `late`: so many users get a
    third device half-way; `cuts`: connections cut a second; `patience`: s after which an operation without an answer is
    unknown; `silence`: s after which devices give up a connection that says nothing (it must be longer than
    TOCSIN_HEARTBEAT); `throughout`: the load lasts until the body has ended, if that is later than after `seconds`;
    `owes`: whether a device is still to get an id, for experiments in which some never come.
    """
    folder = out or cluster.folder
    cluster.experiments += 1
    first = f"x{cluster.experiments}-" if cluster.experiments > 1 else ""  # users of before have cursors already
    names = [f"{first}u{number}" for number in range(users)] if isinstance(users, int) else list(users)
    begin = time.monotonic()
    with History(folder / f"{name}.jsonl") as history:
        cluster.on_exit = lambda process, how: history.add(Fault(at=history.now(), name=f"{process} ended: {how}"))
        async with (
            Load(history, cluster.kafka, cluster.prefix, patience=patience) as load,
            Devices(history, cluster.gateway, cluster.secret, silence=silence) as clients,
        ):
            run = Run(name, cluster, history, load, clients)
            await clients.join((user, device) for user in names for device in devices)
            if cuts:
                clients.beside(clients.cut_now_and_then(cuts))
            over = asyncio.Event()
            steady = load.steady(rate, seconds, names, lanes, longer=lambda: throughout and not over.is_set())
            producing = asyncio.create_task(steady)
            if late:
                clients.beside(_come_late(clients, names[:late], seconds / 2))
            try:
                async with run.watching:
                    yield run
                    over.set()
                    await producing
            finally:
                producing.cancel()
            await load.settle()
            everything = await run.settle(bound, owes)
            if everything:
                await run.until_late_are_at_the_head(bound)
            clients.note_final()
        await read_outcome(history, cluster.kafka, cluster.prefix)
    await _decide(run, folder, time.monotonic() - begin, judge=judge)
    _hold(run, bound, at_least)


async def _come_late(clients: Devices, users: Sequence[str], after: float) -> None:
    await asyncio.sleep(after)  # lateness itself
    await clients.join(((user, "late") for user in users), late=True)


async def _decide(run: Run, folder: Path, seconds: float, *, judge: bool) -> None:
    """Check and judge the history, and add a line to the results."""
    path = run.history.path
    report = run.report = await asyncio.to_thread(lambda: check(read(path)))
    judged = await asyncio.to_thread(judging.judge, path) if judge else judging.NOT_ASKED
    times = await asyncio.to_thread(lambda: Recoveries.of(read(path)))
    run.notes["usage"] = run.watching.summary()
    run.result = Result(
        experiment=run.name,
        operations=report.counts.operations,
        acknowledged=report.counts.acknowledged,
        unknown=report.counts.unknown,
        shown=report.counts.shown,
        lost=report.found("I1"),
        repeats=report.found("I3"),
        violations=report.violated,
        recovery=round(max(times.after.values(), default=0.0), 2),
        settled=round(run.settled, 2),
        reconnect_p99=round(percentile(times.reconnects, 0.99), 2),
        judge=judged.verdict,
        seconds=round(seconds, 1),
        notes=run.notes,
    )
    run.notes.update({"judge": judged.message} if judged.message else {})
    with (folder / "results.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(run.result) + b"\n")


def _hold(run: Run, bound: float, at_least: int) -> None:
    """Raise `AssertionError` unless everything is as promised."""
    result, report = run.result, run.report
    if result is None or report is None:
        raise AssertionError(f"{run.name}: there is no verdict")
    where = f"history: {run.history.path}"
    if report.violated:
        raise AssertionError(f"{run.name}: {report.text()}\n{where}")
    if result.judge not in ("linearizable", judging.NOT_ASKED.verdict):
        raise AssertionError(f"{run.name}: the judge says {result.judge}: {run.notes.get('judge')}\n{where}")
    if result.acknowledged < at_least:
        raise AssertionError(f"{run.name}: only {result.acknowledged} operations were acknowledged, not {at_least}")
    if max(result.recovery, result.settled) > bound:
        took = f"recovery took {result.recovery} s and settling {result.settled} s"
        raise AssertionError(f"{run.name}: nothing was lost, but {took}, more than {bound} s\n{where}")
