"""A `critical` record while a queue of `bulk` is worked off, beside the same without the queue."""

import asyncio
import multiprocessing
import secrets
import urllib.request
from concurrent.futures import ProcessPoolExecutor

import msgspec
from confluent_kafka import Producer

from bench.latency import Latency, Stopwatch
from bench.load import Load
from bench.swarm import Swarm
from cli.deployment import Ready

RATE = 20.0  # critical records a second
UNLOADED = 10.0  # s
LONGEST = 120.0  # s for which a long queue is watched
USERS = [f"p{i}" for i in range(50)]

_encode = msgspec.json.Encoder().encode


async def run(ready: Ready, *, queued: int) -> tuple[Latency, Latency, float]:
    """Return the latency without and with `queued` bulk records waiting, and how many of these went a second."""
    watch = Stopwatch("critical")
    swarm = Swarm(ready.gateway, ready.secret(), on_entry=watch)
    acks = asyncio.create_task(swarm.acknowledge_for_ever())
    try:
        await swarm.join((user, "phone") for user in USERS)
        async with Load(ready.kafka) as load:
            await load.steady(RATE, 3, lambda i: USERS[i % len(USERS)], "critical")
            watch.begin()
            await load.steady(RATE, UNLOADED, lambda i: USERS[i % len(USERS)], "critical")
            unloaded = watch.read()
            watch.begin()
            before = await bulk_records(ready)
            loop = asyncio.get_running_loop()
            # a process of its own: in ours it would delay the devices that measure
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
                await loop.run_in_executor(apart, fill, ready.kafka, queued, secrets.token_hex(3))
            watch.begin()
            begun, first = loop.time(), await bulk_records(ready)
            while await bulk_records(ready) < before + queued and loop.time() < begun + LONGEST:
                await load.steady(RATE, 1, lambda i: USERS[i % len(USERS)], "critical")
            rate = (await bulk_records(ready) - first) / (loop.time() - begun)
            return unloaded, watch.read(), rate
    finally:
        acks.cancel()
        await swarm.leave()


def fill(brokers: str, count: int, run: str) -> None:
    """Queue bulk records for 5,000 users who are not connected, as fast as Kafka takes them; `run` begins their ids."""
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "linger.ms": 20, "acks": "all"})
    for i in range(count):
        user = f"b{i % 5_000}"
        value = {"id": f"{run}-{i}", "user": user, "kind": "promotion", "title": "News", "body": "x" * 60}
        producer.produce("notifications.bulk", _encode(value), key=user.encode())
        if i % 10_000 == 0:
            producer.flush()
    producer.flush()


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
