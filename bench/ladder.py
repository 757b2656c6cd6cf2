"""How latency grows with load: append → client at 10 to 90 % of what a deployment keeps up with.

The load goes to a crowd in C; among its users are some whose devices also look at when Kafka took a record. So each
step has two latencies: from the append in Kafka, and from when the record was due, which a producer or a Kafka that
falls behind makes longer.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from bench.crowd.driver import Crowd, Seen
from bench.latency import Latency, Stopwatch
from bench.publish import publish
from bench.swarm import Swarm
from bench.targets import SPEECHES
from bench.tier import ACKS
from cli.deployment import Ready
from cli.tokens import make_token

CLIENTS = 1_000  # of the crowd
WATCHED = 50  # users beside them, who look at the append time
SLOWEST, STEP = 500.0, 1.25  # records/s at which the search for the capacity begins, and from one rate to the next
BEHIND = 0.5  # s in which everything has to have arrived after the last record
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
WARM_UP = 2.0  # s that are not counted
PATIENCE = 60.0  # s
TOPIC = "notifications.normal"


class Rung(msgspec.Struct, frozen=True):
    """One share of the capacity; latencies in ms, of the watched users from the append, of the crowd from when due."""

    capacity: float
    share: float
    rate: float
    append: Latency
    due_p50: float
    due_p99: float
    wrong: int


class _Ladder:
    def __init__(self, ready: Ready, crowd: Crowd) -> None:
        self._where = ("--kafka", ready.kafka, "--topic", TOPIC)
        self._crowd = crowd
        self._rounds = 0  # records that each user has had

    async def offer(self, rate: float, seconds: float) -> bool:
        """Offer a rate; return whether everything arrived `BEHIND` s after the last record."""
        users = CLIENTS + WATCHED
        rounds = max(1, round(rate * seconds / users))
        await publish(*self._where, rate=rate, rounds=rounds, clients=users, first=self._rounds)
        self._rounds += rounds
        return await self._crowd.expect(self._rounds, BEHIND)

    async def catch_up(self) -> Seen:
        """Wait until nothing is left, and return what was seen. Raises `TimeoutError`."""
        if not await self._crowd.expect(self._rounds, PATIENCE):
            raise TimeoutError(f"not everything arrived within {PATIENCE:.0f} s")
        return await self._crowd.report()


@asynccontextmanager
async def _ladder(ready: Ready, watch: Stopwatch) -> AsyncIterator[tuple[_Ladder, Swarm]]:
    """Connect the users, the watched ones among them; they acknowledge."""
    swarm = Swarm(ready.gateway, ready.secret(), on_entry=watch)
    acks = asyncio.create_task(swarm.acknowledge_for_ever())
    tokens = [make_token(ready.secret(), f"u{number}") for number in range(CLIENTS)]
    at = urlsplit(ready.gateway)
    try:
        await swarm.join((f"u{number}", "phone") for number in range(CLIENTS, CLIENTS + WATCHED))
        async with Crowd(
            SPEECHES["tocsin"], [f"{at.hostname}:{at.port}"], CLIENTS, tokens=tokens, ack_every=ACKS
        ) as crowd:
            opened = await crowd.open(PATIENCE)
            if opened.joined < CLIENTS:
                raise TimeoutError(f"{CLIENTS - opened.joined} clients did not get in")
            yield _Ladder(ready, crowd), swarm
    finally:
        acks.cancel()
        await swarm.leave()


async def capacity(ready: Ready, *, seconds: float) -> float:
    """Return the highest of the rates that a deployment keeps up with for so many seconds. Raises `TimeoutError`."""
    async with _ladder(ready, Stopwatch("normal")) as (ladder, _):
        rate = SLOWEST
        await ladder.offer(rate, WARM_UP)
        await ladder.catch_up()
        while await ladder.offer(rate, seconds):
            rate *= STEP
        await ladder.catch_up()
        return rate / STEP


async def run(ready: Ready, capacity: float, *, seconds: float) -> list[Rung]:
    """Offer each share of the capacity for so many seconds. Raises `TimeoutError`."""
    watch = Stopwatch("normal")
    rungs: list[Rung] = []
    async with _ladder(ready, watch) as (ladder, swarm):
        for share in SHARES:
            await ladder.offer(capacity * share, WARM_UP)
            await ladder.catch_up()
            watch.begin()
            await ladder.offer(capacity * share, seconds)
            seen = await ladder.catch_up()
            watch.end()
            rungs.append(
                Rung(
                    capacity=capacity,
                    share=share,
                    rate=capacity * share,
                    append=watch.read(),
                    due_p50=seen.percentile(0.5),
                    due_p99=seen.percentile(0.99),
                    wrong=seen.wrong + len(swarm.faults),
                )
            )
    return rungs
