"""The inbox role by itself: `python -m bench inbox --help`.

One core has the worker; the others have Kafka, Redis, the store, the producer and a stand-in for the gateways. Every
user has two devices, which acknowledge.

To see how costs grow: `--users` (each gets at least one record in every round) and `--filled` (rows that the store has
before).
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import msgspec
import psutil
import uvloop

from agents.cursors import EVERY
from bench.filling import fill
from bench.measure import chosen, count, cpu_seconds, number, numbers, rested, show, since
from bench.publish import publish_some
from bench.receivers import Receivers
from bench.targets import LOAD, PARTITIONS, SERVER
from cli.kafka import hush
from proof.cluster import Cluster
from proof.servers import Name, Servers

DEVICES: Final = ("phone", "web")
PATIENCE: Final = 120.0  # s that the last records are waited for, and
SLOWEST: Final = 1_000.0  # records or sessions that a worker takes a second, at the least
WARM: Final = 3.0  # s of load that are not counted
FIRST: Final = 20_000.0  # records/s at which each user is sent the first one
REST: Final = EVERY + 0.5  # s of rest after which no cursor is still to be written

StoreName = Literal["cassandra", "sqlite"]
SERVERS: Final[Mapping[str, tuple[Name, ...]]] = {
    "cassandra": ("kafka", "redis", "cassandra"),
    "sqlite": ("kafka", "redis"),
}


class Row(msgspec.Struct, frozen=True):
    """One offered rate with one store. CPU in s; `others` by process; latency in ms from when a record was due."""

    store: str
    rate: float
    records: int
    cpu: float
    others: Mapping[str, float]
    p50: float
    p99: float
    wrong: int
    acks: int

    @property
    def a_second(self) -> float:
        """Records per CPU-second of the workers."""
        return self.records / self.cpu if self.cpu else 0.0


def pin(pid: int, cores: set[int]) -> None:
    """Keep all threads of a process on some cores."""
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, cores)


@asynccontextmanager
async def deployed(
    store: StoreName, *, users: int, workers: int, filled: int = 0
) -> AsyncIterator[tuple[Cluster, Receivers]]:
    """Start servers, workers and the stand-in for gateways, with all sessions open, and so many rows in the store."""
    os.sched_setaffinity(0, LOAD)
    with (
        tempfile.TemporaryDirectory(prefix="tocsin-bench-") as name,
        Servers((folder := Path(name)) / "servers") as servers,
    ):
        async with Cluster(servers, folder, workers=workers, gateways=0, store=store) as cluster:
            if filled:
                await fill(cluster.environment({})["TOCSIN_STORE"], filled)
            for worker in cluster.workers:
                pin(cluster.pid(worker), SERVER)
            url = f"redis://{servers.address('redis')}/0"
            receivers = Receivers(
                cluster.kafka, url, cluster.prefix, users=users, devices=DEVICES, partitions=PARTITIONS
            )
            async with receivers:
                await receivers.connect(PATIENCE + users * len(DEVICES) / SLOWEST)
                yield cluster, receivers


async def profiled(pid: int, seconds: float, out: Path) -> None:
    """Record where a process spends its time, as a flame graph."""
    options = [
        "--pid",
        str(pid),
        "--duration",
        str(max(1, round(seconds))),
        "--rate",
        "400",
        "--gil",
        "--output",
        str(out),
    ]
    options += ["--format", "raw"] if out.suffix == ".txt" else []
    child = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("py-spy")), "record", *options, stdout=asyncio.subprocess.DEVNULL
    )
    await child.wait()


async def measure(
    cluster: Cluster, receivers: Receivers, store: str, rate: float, *, users: int, seconds: float, profile: Path | None
) -> Row:
    """Warm up, then offer `rate` records a second for about `seconds`.

    Before anything is counted every user has had a record: the first one asks the store where the log ends. Each part
    ends when all is acknowledged and worked off, else the next one would pay for it: many users have many
    acknowledgements, and they come behind the entries.
    """
    sent = receivers.received // len(DEVICES)
    for length in (WARM, seconds):
        records = max(round(rate * length), users - sent)
        workers = {name: cluster.pid(name) for name in cluster.workers}
        others: dict[str, int] = {name: cluster.servers.pid(name) for name in SERVERS[store]}
        before, others_before = cpu_seconds(workers), cpu_seconds(others)
        receivers.latency.clear()
        receivers.acks = 0
        aim = receivers.received + records * len(DEVICES)
        where = ("--kafka", cluster.kafka, "--topic", f"{cluster.prefix}notifications.normal")
        speed = max(rate, FIRST) if sent < users else rate
        jobs: list[Any] = [publish_some(*where, rate=speed, messages=records, clients=users, before=sent)]
        if profile and length == seconds:
            jobs.append(profiled(next(iter(workers.values())), seconds, profile))
        await asyncio.gather(*jobs)
        if not await receivers.arrived(aim, patience := PATIENCE + records / SLOWEST):
            raise TimeoutError(f"{aim - receivers.received:,} deliveries did not come within {patience:.0f} s")
        others_used = since(others, others_before)
        used = await rested(workers, seconds=REST, within=patience, also=lambda: receivers.acknowledged)
        sent += records
    return Row(
        store=store,
        rate=rate,
        records=records,
        cpu=sum(used.values()) - sum(before.values()),
        others=others_used,
        p50=receivers.percentile(0.5),
        p99=receivers.percentile(0.99),
        wrong=receivers.wrong,
        acks=receivers.acks,
    )


async def run(given: argparse.Namespace) -> list[Row]:
    """Measure each store at each rate."""
    rows = []
    for store in given.store:
        async with deployed(store, users=given.users, workers=given.workers, filled=given.filled) as (
            cluster,
            receivers,
        ):
            for _ in range(given.rounds):
                for rate in given.rates:
                    row = await measure(
                        cluster, receivers, store, rate, users=given.users, seconds=given.seconds, profile=given.profile
                    )
                    rows.append(row)
                    print(f"{store}, {rate:,.0f} records/s: {row.a_second:,.0f} records/CPU-s", file=sys.stderr)
    return rows


def report(rows: Sequence[Row]) -> None:
    """Print a line for each store and rate."""
    columns = ("store", "offered/s", "records/CPU-s", "p50 ms", "p99 ms", "wrong", "acks", "others' CPU-s")
    lines = []
    for store, rate in dict.fromkeys((row.store, row.rate) for row in rows):
        mine = [row for row in rows if (row.store, row.rate) == (store, rate)]
        others = ", ".join(
            f"{name} {median(row.others[name] for row in mine):.1f}" for name in mine[0].others if mine[0].others[name]
        )
        figures = [median(getattr(row, name) for row in mine) for name in ("a_second", "p50", "p99")]
        lines.append(
            (store, f"{rate:,.0f}", f"{figures[0]:,.0f}", f"{figures[1]:.1f}", f"{figures[2]:.1f}",
             sum(row.wrong for row in mine), mine[0].acks, others)
        )  # fmt: skip
    show("The inbox role on one core; CPU-seconds of the workers", columns, lines)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 1 if a session missed an entry, or got one twice or out of order."""
    parser = argparse.ArgumentParser(prog="python -m bench inbox", description=__doc__)
    parser.add_argument("--store", default="cassandra,sqlite", help="separated by commas: %(default)s")
    parser.add_argument(
        "--rates", type=numbers, default="200,1000,4000,20000", help="records/s that are offered: %(default)s"
    )
    parser.add_argument("--seconds", type=number, default=8.0, help="of each rate: %(default)s")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--users", type=count, default=1_000)
    parser.add_argument("--workers", type=count, default=1)
    parser.add_argument("--filled", type=int, default=0, help="rows of others in the store: %(default)s")
    parser.add_argument("--profile", type=Path, help="write a flame graph of each rate to this file; .txt: its stacks")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    given = parser.parse_args(arguments)
    given.store = chosen(parser, given.store, SERVERS)
    if given.filled < 0:
        parser.error(f"--filled is {given.filled}; it has to be 0 at the least")
    hush()
    rows = uvloop.run(run(given))
    report(rows)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rows))
    return 1 if any(row.wrong for row in rows) else 0
