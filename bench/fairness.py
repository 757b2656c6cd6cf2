"""One log at half of all traffic: what the users beside it notice."""

import asyncio
import time

import msgspec

from bench.device import Device, Seen
from bench.latency import Latency, Stopwatch
from bench.load import Load
from bench.swarm import Swarm, until
from cli.deployment import Ready

USERS = [f"f{i}" for i in range(100)]
HOT = "hot"
SLOWEST = 1_000.0  # records/s at which the search for the capacity begins
STEP = 1.25  # from one rate to the next
LASTS = 4.0  # s of each
BEHIND = 0.5  # s in which everything has to have arrived after the last record
SHARE = 0.4  # of the capacity
WARM_UP = 3.0  # s that are not counted


class Fairness(msgspec.Struct, frozen=True):
    """Latencies of the users beside the hot one, without and with it, at the same total rate (records/s)."""

    capacity: float
    rate: float
    even: Latency
    beside: Latency


async def run(ready: Ready, *, seconds: float) -> Fairness:
    """Measure the capacity, then the latency at 40 % of it: spread evenly, and with half of it for one user."""
    watch = Stopwatch("normal")

    def on_entry(device: Device, frame: Seen) -> None:
        if device.user != HOT:
            watch(device, frame)

    swarm = Swarm(ready.gateway, ready.secret(), on_entry=on_entry)
    acks = asyncio.create_task(swarm.acknowledge_for_ever())
    try:
        await swarm.join((user, "phone") for user in [*USERS, HOT])
        async with Load(ready.kafka) as load:
            capacity = await _capacity(swarm, load)
            rate = capacity * SHARE
            even = await _phase(swarm, load, watch, rate, seconds, hot=False)
            beside = await _phase(swarm, load, watch, rate, seconds, hot=True)
            return Fairness(capacity, rate, even, beside)
    finally:
        acks.cancel()
        await swarm.leave()


async def _capacity(swarm: Swarm, load: Load) -> float:
    """Return the highest of the rates at which records arrive as fast as they are produced, evenly spread."""
    rate = SLOWEST
    while await _keeps_up(swarm, load, rate):
        rate *= STEP
    return rate / STEP


async def _keeps_up(swarm: Swarm, load: Load, rate: float) -> bool:
    before, sent = swarm.received, load.count
    await load.steady(rate, LASTS, lambda i: USERS[i % len(USERS)])
    begun = time.monotonic()
    await until(lambda: swarm.received - before >= load.count - sent, 60, "everything arrived")
    return time.monotonic() - begun <= BEHIND


async def _phase(swarm: Swarm, load: Load, watch: Stopwatch, rate: float, seconds: float, *, hot: bool) -> Latency:
    def user(i: int) -> str:
        return HOT if hot and i % 2 else USERS[i // 2 % len(USERS)]

    before, sent = swarm.received, load.count
    await load.steady(rate, WARM_UP, user)
    watch.begin()
    await load.steady(rate, seconds, user)
    await until(lambda: swarm.received - before >= load.count - sent, 60, "everything arrived")
    watch.end()
    return watch.read()
