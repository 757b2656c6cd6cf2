"""Publishes marked messages at a steady rate, by the clock: `python -m bench.publish --help`.

A mark is `@due:number@`: when the message was due (µs of the steady clock), not when it was sent, so that a publisher
or a server that falls behind is not flattered; and its number among those for its client, from 1. Clients 0 .. n-1 take
turns, so message `number` of all of them is the same round.

To Redis go packs of items, all that was due: client number (4 bytes, little endian; all ones: every client), length (4
bytes), payload. To Kafka go records as upstream services write them.
"""

import argparse
import asyncio
import contextlib
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import redis.asyncio
import uvloop
from aiokafka import AIOKafkaProducer

from bench.targets import LOAD, on_cores
from cli.kafka import hush
from schemas.errors import ServerFailed
from streams.partitions import home_partition

CHANNEL: Final = "bench"
EVERYBODY: Final = 0xFFFF_FFFF
TICK: Final = 0.002  # s between looks at what is due
PAYLOAD: Final = 200  # bytes, about
ENDLESS: Final = 10**9  # messages
READY: Final = b"ready\n"

_ITEM: Final = struct.Struct("<II")


def marked(due_us: int, number: int, size: int = PAYLOAD) -> bytes:
    """Return a JSON object of about `size` bytes with a mark."""
    return (
        b'{"kind":"order.paid","title":"Your order is paid","body":"@%d:%d@' % (due_us, number)
        + b"x" * max(0, size - 90)
        + b'"}'
    )


def record(user: str, due_us: int, number: int, size: int = PAYLOAD) -> bytes:
    """Return the value of a record for Kafka of about `size` bytes."""
    head = f'{{"id":"{user}-{number}","user":"{user}","kind":"order.paid","title":"Your order is paid","body":"'
    return f'{head}@{due_us}:{number}@{"x" * max(0, size - 120)}"}}'.encode()


def due_of(message: bytes) -> int:
    """Return when a marked message was due, µs of the steady clock. Raises `ValueError` if it has no mark."""
    start = message.index(b"@") + 1
    return int(message[start : message.index(b":", start)])


class Schedule:
    """Which messages are due: `rate` a second for `count` clients in turn, or for everybody (`count` 0).

    They go on after `before` messages that were sent earlier.
    """

    def __init__(self, rate: float, messages: int, count: int, begin_us: int, before: int = 0) -> None:
        self._rate = rate
        self._messages = messages
        self._count = count
        self._begin = begin_us
        self._before = before
        self.sent = 0

    @property
    def done(self) -> bool:
        """Whether all were taken."""
        return self.sent >= self._messages

    def take(self, now_us: int) -> list[tuple[int, int, int]]:
        """Return (client, number, due µs) of all that is due and was not taken."""
        due = min(self._messages, int((now_us - self._begin) * self._rate / 1e6) + 1)
        if due <= self.sent:
            return []
        gap = 1e6 / self._rate
        taken = [(*self._whose(i), self._begin + int(i * gap)) for i in range(self.sent, due)]
        self.sent = due
        return taken

    def _whose(self, index: int) -> tuple[int, int]:
        index += self._before
        return (index % self._count, index // self._count + 1) if self._count else (EVERYBODY, index + 1)


def packed(due: list[tuple[int, int, int]], size: int = PAYLOAD) -> bytes:
    """Return what goes to Redis for what is due."""
    parts: list[bytes] = []
    for client, number, at in due:
        payload = marked(at, number, size)
        parts += (_ITEM.pack(client, len(payload)), payload)
    return b"".join(parts)


Plan = Callable[[], Awaitable[Schedule]]


async def _ticks(plan: Plan, send: Callable[[list[tuple[int, int, int]]], Any]) -> None:
    schedule = await plan()
    while not schedule.done:
        due = schedule.take(time.monotonic_ns() // 1000)
        if due:
            await send(due)
        await asyncio.sleep(TICK)


async def to_redis(url: str, plan: Plan, size: int) -> None:
    """Publish to the channel."""
    client = redis.asyncio.Redis.from_url(url)
    try:
        await _ticks(plan, lambda due: client.publish(CHANNEL, packed(due, size)))
    finally:
        await client.aclose()


async def to_kafka(brokers: str, topic: str, plan: Plan, size: int) -> None:
    """Produce records for users u0, u1 …: a batch a partition and tick."""
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", linger_ms=2)
    await producer.start()
    try:
        partitions = len(await producer.partitions_for(topic))
        waiting: list[asyncio.Future[Any]] = []

        async def send(due: list[tuple[int, int, int]]) -> None:
            batches: dict[int, Any] = {}
            for client, number, at in due:
                user = f"u{client}"
                key = user.encode()
                partition = home_partition(key, partitions)
                batch = batches.get(partition) or batches.setdefault(partition, producer.create_batch())
                if batch.append(key=key, value=record(user, at, number, size), timestamp=None) is None:
                    waiting.append(await producer.send_batch(batch, topic, partition=partition))
                    batches[partition] = batch = producer.create_batch()
                    batch.append(key=key, value=record(user, at, number, size), timestamp=None)
            for partition, batch in batches.items():
                waiting.append(await producer.send_batch(batch, topic, partition=partition))

        await _ticks(plan, send)
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()


def _command(*where: str, rate: float, messages: int, clients: int, before: int) -> list[str]:
    command = [sys.executable, "-m", "bench.publish", *where, "--rate", str(rate), "--messages", str(messages)]
    return [*command, "--clients", str(clients), "--before", str(before)]


async def publish(*where: str, rate: float, rounds: int, clients: int, first: int, everybody: bool = False) -> None:
    """Publish `rounds` messages for each client, or for all at once, after `first` rounds that were sent before.

    Raises `ServerFailed`.
    """
    turn, taking_turns = (1, 0) if everybody else (clients, clients)
    await publish_some(*where, rate=rate, messages=rounds * turn, clients=taking_turns, before=first * turn)


async def publish_some(*where: str, rate: float, messages: int, clients: int, before: int) -> None:
    """Publish messages for clients in turn, or with 0 for all at once, in a process of its own on the load's cores.

    `where` is how the command line names the place; they go on after the `before` that were sent so far. Raises
    `ServerFailed`.
    """
    command = _command(*where, rate=rate, messages=messages, clients=clients, before=before)
    child = await asyncio.create_subprocess_exec(*on_cores(LOAD, command))
    if await child.wait():
        raise ServerFailed(f"bench.publish ended with {child.returncode}")


@contextlib.asynccontextmanager
async def publisher(*where: str, rate: float, clients: int, first: int = 0) -> AsyncIterator[Callable[[], None]]:
    """Start a process that is connected and publishes from when what is yielded is called to the end of the context.

    So a measurement that is to begin now does not wait for an interpreter. What it sends comes after `first` rounds
    that were sent before. Raises `ServerFailed`.
    """
    command = [*_command(*where, rate=rate, messages=ENDLESS, clients=clients, before=first * clients), "--told"]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        if await child.stdout.readline() != READY:
            raise ServerFailed(f"bench.publish ended with {await child.wait()}")
        yield lambda stdin=child.stdin: stdin.write(b"\n")  # type: ignore[misc]  # a lambda with a default
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def main() -> None:
    """Publish until all is sent."""
    parser = argparse.ArgumentParser(prog="python -m bench.publish", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--redis", help="URL of Redis")
    where.add_argument("--kafka", help="brokers")
    parser.add_argument("--topic", default="notifications.normal")
    parser.add_argument("--rate", type=float, required=True, help="messages a second")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True, help="0: every message is for everybody")
    parser.add_argument("--before", type=int, default=0, help="how many messages were sent before")
    parser.add_argument("--size", type=int, default=PAYLOAD, help="bytes of a message, about: %(default)s")
    parser.add_argument("--told", action="store_true", help="say `ready` when connected, begin at a line on stdin")
    given = parser.parse_args()
    hush()

    async def plan() -> Schedule:
        if given.told:
            sys.stdout.buffer.write(READY)
            sys.stdout.buffer.flush()
            await asyncio.to_thread(sys.stdin.readline)
        return Schedule(given.rate, given.messages, given.clients, time.monotonic_ns() // 1000, given.before)

    if given.redis:
        uvloop.run(to_redis(given.redis, plan, given.size))
    else:
        uvloop.run(to_kafka(given.kafka, given.topic, plan, given.size))


if __name__ == "__main__":
    main()
