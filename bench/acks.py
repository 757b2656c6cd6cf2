"""Acknowledgements of many gateways, and who waits for them: `python -m bench acks --help`.

One core has the worker; the others have Kafka, Redis, the store, and what stands in for gateways: `GATEWAYS` of them
write acknowledgements at a rate, one more opens sessions and waits for each to be answered.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import redis.asyncio
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from agents.cursors import EVERY
from bench.inbox import SERVERS, pin
from bench.measure import chosen, count, cpu_seconds, number, numbers, show, since
from bench.targets import LOAD, PARTITIONS, SERVER
from cli.kafka import hush
from proof.cluster import Cluster
from proof.servers import Servers
from schemas import bus
from schemas.bus import Heard
from schemas.records import Ack, Acks, Connected, encode
from streams.partitions import home_partition

GATEWAYS: Final = 313  # as docs/capacity.md has them
GATEWAY: Final = "bench-joins"
TOGETHER: Final = 10  # records in one batch of Kafka
STEP: Final = 0.02  # s between writes
JOINS: Final = 20.0  # sessions a second that open
PATIENCE: Final = 30.0  # s that an answer is waited for
LOOK_EVERY: Final = 1.0  # s between looks at how far the worker is behind
LOG: Final = "inbox/normal"


class Row(msgspec.Struct, frozen=True):
    """One offered rate of ack records. Joins in ms; `behind` in s of the rate, at most; `cpu` of the worker in s."""

    store: str
    rate: float
    records: int
    p50: float
    p99: float
    worst: float
    behind: float
    cpu: float
    unanswered: int


class Joins:
    """Opens a session of a user of its own `JOINS` times a second, and measures how long the answer takes."""

    def __init__(self, producer: Any, client: Any, prefix: str) -> None:
        self._producer = producer
        self._redis = client
        self._prefix = prefix
        self._begun: dict[str, float] = {}
        self._numbered = 0
        self.took: list[float] = []  # s

    async def listen(self, listening: asyncio.Event) -> None:
        """Hear the answers until cancelled."""
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(bus.gateway_channel(self._prefix, GATEWAY))
            async for message in pubsub.listen():
                if message["type"] != "message":
                    listening.set()
                    continue
                heard = bus.decode(message["data"])
                for part in heard.parts if isinstance(heard, Heard) else ():
                    for opening in part.openings:
                        if (begun := self._begun.pop(opening.session, None)) is not None:
                            self.took.append(time.monotonic() - begun)

    async def open_for(self, seconds: float) -> int:
        """Open sessions for so long; return how many were not answered."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._numbered += 1
            user = f"joins-{self._numbered}"
            session = f"{GATEWAY}-{self._numbered}"
            record = Connected(user=user, session=session, gateway=GATEWAY, device="phone")
            self._begun[session] = time.monotonic()
            partition = home_partition(user.encode(), PARTITIONS)
            await self._producer.send(f"{self._prefix}connections", encode(record), user.encode(), partition)
            await asyncio.sleep(1 / JOINS)
        patient = time.monotonic() + PATIENCE
        while self._begun and time.monotonic() < patient:  # noqa: ASYNC110 - many messages bring it about
            await asyncio.sleep(STEP)
        return len(self._begun)


class Acknowledging:
    """Writes ack records of many gateways: each of two devices of users, in no order."""

    def __init__(self, producer: Any, topic: str, users: int) -> None:
        self._producer = producer
        self._topic = topic
        self._users: defaultdict[int, list[str]] = defaultdict(list)
        for number_ in range(users):
            user = f"u{number_}"
            self._users[home_partition(user.encode(), PARTITIONS)].append(user)
        self._random = random.Random(1)
        self._seq = 0

    async def write_for(self, seconds: float, rate: float) -> int:
        """Write `rate` records a second for so long; return how many, when Kafka has them all."""
        written, begun, waits = 0, time.monotonic(), list[Any]()
        while (passed := time.monotonic() - begun) < seconds:
            while written < rate * passed:
                waits.append(await self._write(written // TOGETHER % PARTITIONS))
                written += TOGETHER
            await asyncio.sleep(STEP)
        await asyncio.gather(*waits)
        return written

    async def _write(self, partition: int) -> Any:
        batch = self._producer.create_batch()
        for _ in range(TOGETHER):
            self._seq += 1
            user = self._random.choice(self._users[partition])
            gateway = f"gateway-{self._random.randrange(GATEWAYS)}-0123456789"
            acks = [Ack(user, device, LOG, self._seq, 0) for device in ("phone", "web")]
            batch.append(key=user.encode(), value=encode(Acks(gateway=gateway, acks=acks)), timestamp=None)
        batch.close()
        return await self._producer.send_batch(batch, self._topic, partition=partition)


async def behind(cluster: Cluster, topic: str) -> int:
    """Return how many records of a topic the workers have not committed."""
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    consumer, admin = (
        AIOKafkaConsumer(bootstrap_servers=cluster.kafka),
        AIOKafkaAdminClient(bootstrap_servers=cluster.kafka),
    )
    await consumer.start()
    await admin.start()
    try:
        ends = await consumer.end_offsets(places)
        met = await admin.list_consumer_group_offsets(f"{cluster.prefix}tocsin-inbox", partitions=places)
    finally:
        await consumer.stop()
        await admin.close()
    return sum(ends[place] - max(0, met[place].offset) for place in places)


@asynccontextmanager
async def deployed(store: Any) -> AsyncIterator[tuple[Cluster, Any, Any]]:
    """Start servers and a worker on a core of its own; give them, a producer and a client of Redis."""
    os.sched_setaffinity(0, LOAD)
    with (
        tempfile.TemporaryDirectory(prefix="tocsin-bench-") as name,
        Servers((folder := Path(name)) / "servers") as servers,
    ):
        async with Cluster(servers, folder, workers=1, gateways=0, store=store) as cluster:
            pin(cluster.pid("worker-0"), SERVER)
            client: Any = redis.asyncio.Redis.from_url(f"redis://{servers.address('redis')}/0")
            producer = AIOKafkaProducer(bootstrap_servers=cluster.kafka, acks="all")
            await producer.start()
            await client.set(bus.lease_key(cluster.prefix, GATEWAY), b"{}")
            try:
                yield cluster, producer, client
            finally:
                await producer.stop()
                await client.aclose()


async def measure(
    cluster: Cluster, producer: Any, client: Any, given: argparse.Namespace, store: str, rate: float
) -> Row:
    """Open sessions while acknowledgements come at a rate."""
    joins = Joins(producer, client, cluster.prefix)
    acks = Acknowledging(producer, f"{cluster.prefix}acks", given.users)
    listening = asyncio.Event()
    hearing = asyncio.create_task(joins.listen(listening))
    most = 0

    async def look() -> None:
        nonlocal most
        while True:
            await asyncio.sleep(LOOK_EVERY)
            most = max(most, await behind(cluster, f"{cluster.prefix}acks"))

    try:
        await listening.wait()
        before = cpu_seconds({"worker": cluster.pid("worker-0")})
        looking = asyncio.create_task(look())
        written, unanswered = await asyncio.gather(acks.write_for(given.seconds, rate), joins.open_for(given.seconds))
        looking.cancel()
        end = time.monotonic() + PATIENCE
        while rate and await behind(cluster, f"{cluster.prefix}acks") and time.monotonic() < end:  # noqa: ASYNC110 - Kafka is asked
            await asyncio.sleep(EVERY / 2)
        cpu = since({"worker": cluster.pid("worker-0")}, before)["worker"]
    finally:
        hearing.cancel()
    took = sorted(joins.took)
    return Row(
        store=store,
        rate=rate,
        records=written,
        p50=_ms(took, 0.5),
        p99=_ms(took, 0.99),
        worst=_ms(took, 1.0),
        behind=most / rate if rate else 0.0,
        cpu=cpu,
        unanswered=unanswered,
    )


def _ms(took: Sequence[float], share: float) -> float:
    """Return a percentile of seconds that are sorted, in ms."""
    return 1000 * took[min(len(took) - 1, int(share * len(took)))] if took else 0.0


async def run(given: argparse.Namespace) -> list[Row]:
    """Measure each store without acknowledgements and at each rate."""
    rows = []
    for store in given.store:
        async with deployed(store) as (cluster, producer, client):
            for _ in range(given.rounds):
                for rate in (0.0, *given.rates):
                    rows.append(await measure(cluster, producer, client, given, store, rate))
                    print(f"{store}, {rate:,.0f} ack records/s: joins {rows[-1].p99:.0f} ms at p99", file=sys.stderr)
    return rows


def report(rows: Sequence[Row]) -> None:
    """Print a line for each store and rate."""
    columns = ("store", "ack records/s", "join p50 ms", "p99", "worst", "behind, s", "worker µs a record", "unanswered")
    lines = []
    for store, rate in dict.fromkeys((row.store, row.rate) for row in rows):
        mine = [row for row in rows if (row.store, row.rate) == (store, rate)]
        figures = [median(getattr(row, name) for row in mine) for name in ("p50", "p99", "worst", "behind")]
        each = median(row.cpu / row.records * 1e6 for row in mine) if rate else 0.0
        unanswered = sum(row.unanswered for row in mine)
        lines.append((store, f"{rate:,.0f}", *(f"{one:.1f}" for one in figures), f"{each:.1f}", unanswered))
    show(f"Joins beside the acknowledgements of {GATEWAYS} gateways, one worker", columns, lines)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 1 if a session was not answered."""
    parser = argparse.ArgumentParser(prog="python -m bench acks", description=__doc__)
    parser.add_argument("--store", default="cassandra,sqlite", help="separated by commas: %(default)s")
    parser.add_argument("--rates", type=numbers, default="5000,25000", help="ack records/s: %(default)s")
    parser.add_argument("--seconds", type=number, default=15.0, help="of each rate: %(default)s")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--users", type=count, default=10_000, help="who acknowledge, with two devices: %(default)s")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    given = parser.parse_args(arguments)
    given.store = chosen(parser, given.store, SERVERS)
    hush()
    rows = uvloop.run(run(given))
    report(rows)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rows))
    return 1 if any(row.unanswered for row in rows) else 0
