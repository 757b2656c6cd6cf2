"""`python -m bench recovery`: how fast a worker gets its table back, from the changelog alone or from its files.

The changelog is filled by a producer of our own; the worker is the counting one of `bench rebalance`, ours or stock.
The time counts from the start of its process until the table says that everything is there.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import rocksdict
from aiokafka import AIOKafkaProducer

from bench.measure import count, cpu_seconds, show
from bench.rebalance_run import OFFSET_KEY
from bench.rebalance_worker import PARTITIONS, ROLE
from bench.topics import make_topics
from cli.kafka import hush
from schemas.errors import TocsinError
from stack.child import Child
from stack.servers import Kafka
from tables.rocks import AS_OF

BATCH: Final = 1_000  # records
LIMIT: Final = 600.0  # s
READY: Final = "worker ready"


class Slow(TocsinError):
    """The table did not come back in time."""


async def fill(brokers: str, prefix: str, keys: int, size: int) -> None:
    """Make the topics of a counting worker and a changelog with so many keys of `size` bytes a value."""
    changelog = f"{prefix}tocsin-{ROLE}-last-changelog"
    await make_topics(brokers, (f"{prefix}events", f"{prefix}out", changelog), PARTITIONS)
    value = secrets.token_bytes(size)
    async with AIOKafkaProducer(bootstrap_servers=brokers, max_batch_size=2**20, max_request_size=2**21) as producer:
        waits = []
        for first in range(0, keys, BATCH):
            batch = producer.create_batch()
            for number in range(first, min(first + BATCH, keys)):
                batch.append(key=b"inbox/normal/user-%09d" % number, value=value, timestamp=None)
            waits.append(await producer.send_batch(batch, changelog, partition=first // BATCH % PARTITIONS))
        await asyncio.gather(*waits)


def recovered(brokers: str, prefix: str, folder: Path, kind: str) -> tuple[float, float]:
    """Start a worker, wait until it is ready, end it; returns the seconds until then, and those of its CPU."""
    log = folder / f"worker-{time.time_ns()}.log"
    command = [sys.executable, "-m", "bench.rebalance_worker", kind, brokers, prefix, str(folder / "data"), ""]
    worker = Child(kind, command, log=log)
    begun = time.monotonic()
    worker.spawn()
    try:
        while READY not in log.read_text():
            if time.monotonic() - begun > LIMIT or not worker.running:
                raise Slow(worker.obituary())
            time.sleep(0.05)
        return time.monotonic() - begun, cpu_seconds({kind: worker.pid})[kind]
    finally:
        worker.stop(30.0)


def held(folder: Path) -> int:
    """Return how many keys the files hold."""
    keys = 0
    for path in folder.glob("data/**/last-*.db"):
        files = rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True))
        keys += sum(bytes(key) not in (OFFSET_KEY, AS_OF) for key in files.keys())  # noqa: SIM118 - no mapping
        files.close()
    return keys


def measure(brokers: str, folder: Path, kind: str, keys: int, size: int) -> tuple[object, ...]:
    """Return a row of the table: what; s and CPU-s from the changelog and from the files; rates; keys found."""
    prefix = f"rc{secrets.token_hex(4)}."
    place = folder / prefix.rstrip(".")
    place.mkdir(parents=True)
    asyncio.run(fill(brokers, prefix, keys, size))
    changelog, work = recovered(brokers, prefix, place, kind)
    files, start = recovered(brokers, prefix, place, kind)
    found = held(place)
    shutil.rmtree(place)
    rates = f"{keys / changelog:,.0f}", f"{keys / max(0.001, work - start):,.0f}"
    return f"{kind}, {keys:,} values of {size} B", changelog, work, files, start, *rates, f"{found:,}"


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 if keys are missing."""
    parser = argparse.ArgumentParser(prog="python -m bench recovery", description=__doc__)
    parser.add_argument("--keys", type=count, default=1_000_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[60, 600], help="bytes of a value")
    parser.add_argument("--kinds", nargs="+", choices=("ours", "stock"), default=["ours"])
    parser.add_argument("--kafka", default="", help="brokers; an own Kafka is started if none are named")
    given = parser.parse_args(arguments)
    hush()
    folder = Path(tempfile.mkdtemp(prefix="tocsin-recovery-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        brokers = given.kafka or stack.enter_context(Kafka(folder / "kafka")).address
        rows = [measure(brokers, folder, kind, given.keys, size) for kind in given.kinds for size in given.sizes]
    columns = (
        "table",
        "changelog, s",
        "CPU-s",
        "files, s",
        "CPU-s",
        "keys/s",
        "keys a CPU-s beyond the start",
        "found",
    )
    show("Seconds from the start of the process until its table is there", columns, rows)
    return 0 if all(row[-1] == f"{given.keys:,}" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
