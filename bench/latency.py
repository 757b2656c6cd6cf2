"""Append → client: from Kafka's append time to the moment the device has the frame, at a steady rate."""

import asyncio
import math
import time

import msgspec

from bench.device import Device, Seen
from bench.load import Load
from bench.measure import percentile
from bench.swarm import Swarm, created_ms, until
from cli.deployment import Ready

USERS = [f"l{i}" for i in range(100)]
WARM_UP = 3.0  # s that are not counted


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float
    worst: float
    count: int


class Stopwatch:
    """Notes the latency of the entries of one lane that are appended after `begin` and shown before `end`."""

    def __init__(self, lane: str) -> None:
        self._log = f"inbox/{lane}"
        self._since = math.inf  # ms since 1970
        self.values: list[float] = []

    def begin(self) -> None:
        """Measure anew; what was appended before belongs to what was measured before."""
        self.values.clear()
        self._since = time.time() * 1000

    def end(self) -> None:
        """Measure no more."""
        self._since = math.inf

    def __call__(self, _device: Device, frame: Seen) -> None:
        """Take the time of an entry."""
        if frame.log == self._log and (created := created_ms(frame)) >= self._since:
            self.values.append(time.time() * 1000 - created)

    def read(self) -> Latency:
        """Return the figures so far."""
        values = self.values
        return Latency(percentile(values, 0.5), percentile(values, 0.99), max(values, default=0.0), len(values))


async def at_rate(ready: Ready, rate: float, seconds: float) -> Latency:
    """Measure the latency at `rate` records a second for 100 connected users."""
    watch = Stopwatch("normal")
    swarm = Swarm(ready.gateway, ready.secret(), on_entry=watch)
    acks = asyncio.create_task(swarm.acknowledge_for_ever())
    try:
        await swarm.join((user, "phone") for user in USERS)
        async with Load(ready.kafka) as load:
            await load.steady(rate, WARM_UP, lambda i: USERS[i % len(USERS)])
            watch.begin()
            before = swarm.received
            await load.steady(rate, seconds, lambda i: USERS[i % len(USERS)])
            await until(lambda: swarm.received >= before + int(rate * seconds) - 2, 30, "everything arrived")
    finally:
        acks.cancel()
        await swarm.leave()
    return watch.read()
