"""A `critical` record while a queue of `bulk` is worked off, beside the same without the queue."""

import asyncio
import urllib.request

from bench.latency import Latency, Stopwatch
from bench.load import Load
from bench.swarm import Swarm
from cli.deployment import Ready

RATE = 20.0  # critical records a second
UNLOADED = 10.0  # s
USERS = [f"p{i}" for i in range(50)]


async def run(ready: Ready, *, queued: int) -> tuple[Latency, Latency, float]:
    """Return the latency without and with `queued` bulk records waiting, and the seconds that these took."""
    watch = Stopwatch("critical")
    swarm = Swarm(ready.gateway, ready.secret(), on_entry=watch)
    acks = asyncio.create_task(swarm.acknowledge_for_ever())
    try:
        await swarm.join((user, "phone") for user in USERS)
        async with Load(ready.kafka) as load, Load(ready.kafka) as queue:
            await load.steady(RATE, 3, lambda i: USERS[i % len(USERS)], "critical")
            watch.on = True
            await load.steady(RATE, UNLOADED, lambda i: USERS[i % len(USERS)], "critical")
            unloaded = watch.read()
            watch.values.clear()
            done = await bulk_records(ready) + queued
            loop = asyncio.get_running_loop()
            begun = loop.time()
            filling = asyncio.create_task(fill(queue, queued))
            while await bulk_records(ready) < done:
                await load.steady(RATE, 1, lambda i: USERS[i % len(USERS)], "critical")
            await filling
            return unloaded, watch.read(), loop.time() - begun
    finally:
        acks.cancel()
        await swarm.leave()


async def fill(queue: Load, count: int) -> None:
    """Queue bulk records for 5,000 users who are not connected, as fast as Kafka takes them."""
    for start in range(0, count, 5_000):
        await queue.burst((f"b{i % 5_000}" for i in range(start, min(count, start + 5_000))), "bulk")


async def bulk_records(ready: Ready) -> int:
    """Return how many bulk records the workers have processed."""
    total = 0.0
    for name, url in ready.metrics.items():
        if name.startswith("worker"):
            text = await asyncio.to_thread(_fetch, url)
            lines = [line for line in text.splitlines() if line.startswith('tocsin_records_total{agent="bulk"}')]
            total += sum(float(line.rsplit(" ", 1)[1]) for line in lines)
    return int(total)


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode()
