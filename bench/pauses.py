"""How long a partition stands still while workers come and go under load: the whole product, 1 → 3 → 1 workers."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

import msgspec

from bench.device import Device, Seen
from bench.load import Load
from bench.measure import percentile, show
from bench.swarm import Swarm
from cli.deployment import Ready, deployment
from stack.child import Child
from streams.partitions import home_partition
from streams.settings import PREFIX

USERS: Final = [f"p{number}" for number in range(200)]
PARTITIONS: Final = 4
RATE: Final = 400.0  # records a second
BETWEEN: Final = 15.0  # s between two steps; longer than the session timeout

Step = tuple[str, float]  # what, and when it was done, s of the steady clock


class Pause(msgspec.Struct, frozen=True):
    """What a step cost: the longest silence of each partition that began within the time after the step, s."""

    step: str
    longest: list[float]


def pauses(steps: list[Step], arrivals: dict[int, list[float]]) -> list[Pause]:
    """Return the pauses of each step; `arrivals` are the times of deliveries by partition."""
    found = []
    for step, at in steps:
        longest = []
        for times in arrivals.values():
            gaps = [after - before for before, after in pairwise(times) if at <= before < at + BETWEEN]
            longest.append(max(gaps, default=0.0))
        found.append(Pause(step, longest))
    return found


class Stage:
    """The running deployment, and the workers that join and leave."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._joined: dict[str, Child] = {}
        self.steps: list[Step] = []
        self.arrivals: defaultdict[int, list[float]] = defaultdict(list)

    def on_entry(self, device: Device, _frame: Seen) -> None:
        """Note when an entry arrived."""
        self.arrivals[home_partition(device.user.encode(), PARTITIONS)].append(time.monotonic())

    def _note(self, step: str) -> None:
        self.steps.append((step, time.monotonic()))

    def join(self, name: str) -> None:
        """Start a worker."""
        folder = self._ready.folder / name
        own = {"KAFKA": self._ready.kafka, "REDIS": self._ready.redis, "STORE": self._ready.store,
               "DATA": str(folder), "INSTANCE": name}  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        command = [sys.executable, "-m", "cli", "worker", "--role", "inbox"]
        environment = {**kept, **{f"{PREFIX}{key}": value for key, value in own.items()}}
        child = Child(name, command, log=self._ready.folder / "logs" / f"{name}.log", environment=environment)
        child.spawn()
        self._joined[name] = child
        self._note("a worker joins")

    def leave(self, name: str) -> None:
        """End a worker by SIGTERM."""
        self._joined[name].send(signal.SIGTERM)
        self._note("a worker leaves (SIGTERM)")

    def kill(self) -> None:
        """End the first worker as kill -9 does; its supervisor starts it again."""
        os.kill(self._ready.pids["worker-inbox"], signal.SIGKILL)
        self._note("a worker is killed and started again")

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """End what joined."""
        try:
            yield
        finally:
            for child in self._joined.values():
                child.stop(20.0)


async def _measure(ready: Ready) -> list[Pause]:
    stage = Stage(ready)
    swarm = Swarm(ready.gateway, ready.secret(), on_entry=stage.on_entry)
    acks = asyncio.create_task(swarm.acknowledge_for_ever())
    try:
        await swarm.join((user, "phone") for user in USERS)
        async with Load(ready.kafka) as load:
            steady = asyncio.create_task(load.steady(RATE, BETWEEN * 6.5, lambda number: USERS[number % len(USERS)]))
            with stage.ended():
                await asyncio.sleep(BETWEEN / 2)  # undisturbed
                steps: list[Callable[[], None]] = [
                    lambda: stage.join("second"),
                    lambda: stage.join("third"),
                    stage.kill,
                    lambda: stage.leave("third"),
                    lambda: stage.leave("second"),
                ]
                for step in steps:
                    step()
                    await asyncio.sleep(BETWEEN)  # the time that a step has
                await steady
    finally:
        acks.cancel()
        await swarm.leave()
    everything = [gap for times in stage.arrivals.values() for gap in _gaps(times)]
    print(f"gaps between deliveries of a partition: p50 {percentile(everything, 0.5) * 1000:.0f} ms, "
          f"p99 {percentile(everything, 0.99) * 1000:.0f} ms, longest {max(everything):.1f} s")  # fmt: skip
    return pauses(stage.steps, stage.arrivals)


def _gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


async def _run() -> list[Pause]:
    async with deployment("--stack", "real") as ready:
        return await _measure(ready)


def main() -> int:
    """Measure and print."""
    found = asyncio.run(_run())
    rows = [(pause.step, min(pause.longest), percentile(pause.longest, 0.5), max(pause.longest)) for pause in found]
    columns = ("step", "shortest of the partitions", "p50", "longest")
    show("How long a partition stands still, s", columns, [(name, *(f"{x:.1f}" for x in row)) for name, *row in rows])
    return 0
