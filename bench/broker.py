"""What Kafka itself adds: `python -m bench broker --help`, a producer and a consumer alone with the stack's broker.

Nothing of ours is in between. A broker may slow with what it holds, so the figures are of each part of the time.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer

from bench.measure import cpu_seconds, percentile, show, since
from bench.publish import due_of, publish_some
from bench.topics import make_topics
from cli.kafka import hush
from stack.servers import Kafka, Server, Tansu
from streams.membership import BROKER_WAIT_MS

TOPIC: Final = "records"
USERS: Final = 1_000
PARTS: Final = 5  # of the time, each with figures of its own
PATIENCE: Final = 60.0  # s that a part may take beyond its own time
BROKERS: Final[dict[str, type[Server]]] = {"embedded": Tansu, "real": Kafka}


class Row(msgspec.Struct, frozen=True):
    """A part of the time. Latency in ms, from when a record was due until the consumer had it."""

    stack: str
    rate: float
    part: int
    records: int
    p50: float
    p99: float
    cores: float  # of the broker


async def delays(consumer: Any, records: int, within: float) -> list[float]:
    """Read so many records within so many s; return of each the ms since it was due. Raises `TimeoutError`."""
    found: list[float] = []
    async with asyncio.timeout(within):
        while len(found) < records:
            fetched = await consumer.getmany(timeout_ms=1_000)
            now = time.monotonic_ns() // 1000
            found += [(now - due_of(message.value)) / 1000 for some in fetched.values() for message in some]
    return found


async def run(server: Server, stack: str, *, rate: float, messages: int, partitions: int, hold: int) -> list[Row]:
    """Offer `rate` records/s, `messages` in each of `PARTS` parts; the broker may hold a fetch for `hold` ms."""
    await make_topics(server.address, [TOPIC], partitions)
    where = ("--kafka", server.address, "--topic", TOPIC)
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=server.address, auto_offset_reset="earliest", fetch_max_wait_ms=hold
    )
    await consumer.start()
    rows: list[Row] = []
    try:
        for part in range(PARTS):
            begun, used = time.monotonic(), cpu_seconds({"broker": server.pid})
            found, _ = await asyncio.gather(
                delays(consumer, messages, messages / rate + PATIENCE),
                publish_some(*where, rate=rate, messages=messages, clients=USERS, before=part * messages),
            )
            cores = since({"broker": server.pid}, used)["broker"] / (time.monotonic() - begun)
            p50, p99 = (percentile(found, share) for share in (0.5, 0.99))
            rows.append(Row(stack, rate, part + 1, len(found), p50, p99, cores))
    finally:
        await consumer.stop()
    return rows


def main(arguments: Sequence[str]) -> int:
    """Print a line for each part of the time."""
    parser = argparse.ArgumentParser(prog="python -m bench broker", description=__doc__)
    parser.add_argument("--stack", choices=sorted(BROKERS), default="real")
    parser.add_argument("--rate", type=float, default=7_000.0, help="records/s: %(default).0f")
    parser.add_argument("--seconds", type=float, default=20.0, help="in all: %(default).0f")
    parser.add_argument("--partitions", type=int, default=32)
    parser.add_argument("--hold", type=int, default=BROKER_WAIT_MS, help="ms, as workers have it: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    given = parser.parse_args(arguments)
    messages = round(given.rate * given.seconds / PARTS)
    if messages < 1 or given.partitions < 1 or given.hold < 0:
        parser.error(f"--rate times --seconds has to be {PARTS} records, --partitions 1, --hold 0, at the least")
    hush()
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder, BROKERS[given.stack](Path(folder)) as server:
        print(f"{given.stack} broker, {given.rate:,.0f} records/s ...", file=sys.stderr)
        how = {"rate": given.rate, "messages": messages, "partitions": given.partitions, "hold": given.hold}
        rows = uvloop.run(run(server, given.stack, **how))
    lines = [(f"{one.part} of {PARTS}", one.records, one.p50, one.p99, f"{one.cores:.2f}") for one in rows]
    columns = ("part of the time", "records", "p50 ms", "p99 ms", "broker's cores")
    show(f"A producer and a consumer alone, {given.rate:,.0f} records/s, {os.cpu_count()} cores", columns, lines)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rows))
    return 0
