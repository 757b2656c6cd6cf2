"""From a record in Kafka to the client, ours beside centrifuge: `python -m bench chain --help`.

Both are fed by the same records in Kafka and check the same tokens. Ours: worker, Cassandra (or SQLite), Redis,
gateway. Theirs: one process that consumes Kafka, keeps 100 publications a user in Redis for an hour, and holds the
connections. One core has what is measured; the servers, the clients and the producer have the others.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import uvloop

from bench.crowd.driver import Crowd
from bench.inbox import StoreName, pin
from bench.measure import chosen, count, cpu_seconds, number, numbers, show, since
from bench.native import built_go
from bench.publish import publish
from bench.targets import (
    EACH,
    LOAD,
    PARTITIONS,
    PEERS,
    SECRET,
    SERVER,
    SPEECHES,
    Stage,
    Target,
    answers,
    on_cores,
    running,
    until,
)
from bench.tier import ACKS, OPENING, PATIENCE
from bench.topics import make_topics
from cli.kafka import hush
from cli.tokens import make_token
from proof.cluster import Cluster
from proof.servers import Name, Servers
from schemas.errors import ServerFailed
from stack.ports import LOOPBACK, free_port

WARM: Final = 3.0  # s of load that are not counted


class Fed(msgspec.Struct, frozen=True):
    """A target that is fed by Kafka: `topic` is where its records go, `secret` signs its tokens."""

    target: Target
    topic: str
    secret: str


class Row(msgspec.Struct, frozen=True):
    """One target at one rate. CPU in s: `own` of our (or their) processes, `stores` of the servers, by name."""

    target: str
    rate: float
    deliveries: int
    own: Mapping[str, float]
    stores: Mapping[str, float]
    p50: float
    p99: float
    wrong: int

    @property
    def a_second(self) -> float:
        """Deliveries per CPU-second of own processes."""
        return self.deliveries / sum(self.own.values())

    @property
    def with_stores(self) -> float:
        """Deliveries per CPU-second of own processes and servers."""
        return self.deliveries / (sum(self.own.values()) + sum(self.stores.values()))


@asynccontextmanager
async def ours(servers: Servers, folder: Path, store: StoreName, *, processes: int = 1) -> AsyncIterator[Fed]:
    """Start a worker and so many gateways."""
    async with Cluster(servers, folder, workers=1, gateways=processes, store=store) as cluster:
        pids = {name: cluster.pid(name) for name in (*cluster.workers, *cluster.gateways)}
        for pid in pids.values():
            pin(pid, SERVER)
        target = Target(
            name=f"Tocsin, {store}",
            speech=SPEECHES["tocsin"],
            addresses=[f"{LOOPBACK}:{cluster.port}"],
            pids=pids,
            tokens=True,
        )
        yield Fed(target, f"{cluster.prefix}notifications.normal", cluster.secret)


@asynccontextmanager
async def theirs(servers: Servers, folder: Path, *, processes: int = 1) -> AsyncIterator[Fed]:
    """Start the centrifuge server, which consumes Kafka itself and is one process. Raises `ServerFailed`."""
    if processes > 1:
        raise ServerFailed(f"centrifuge fed by Kafka is one process here and holds at most {EACH:,} connections")
    port, topic = free_port(), f"peer{free_port()}"
    await make_topics(servers.address("kafka"), [topic], PARTITIONS)
    program = str(built_go("centrifuge-peer", PEERS / "centrifuge"))
    command = [program, "-secret", SECRET, "-redis", servers.address("redis"), "-listen", f"{LOOPBACK}:{port}"]
    command += ["-kafka", servers.address("kafka"), "-topic", topic]
    stage = Stage(servers.kafka, servers.redis, folder)
    with running(stage, "centrifuge", on_cores(SERVER, command)) as child:
        await until(child, answers(f"http://{LOOPBACK}:{port}/metrics"))
        target = Target(
            name="centrifuge, Redis history",
            speech=SPEECHES["centrifuge"],
            addresses=[f"{LOOPBACK}:{port}"],
            pids={"server": child.pid},
            tokens=True,
        )
        yield Fed(target, topic, SECRET)


TARGETS: Final[Mapping[str, tuple[Any, tuple[Name, ...]]]] = {
    "cassandra": (partial(ours, store="cassandra"), ("kafka", "redis", "cassandra")),
    "sqlite": (partial(ours, store="sqlite"), ("kafka", "redis")),
    "centrifuge": (theirs, ("kafka", "redis")),
}


async def measure(
    servers: Servers, folder: Path, name: str, rates: Sequence[float], *, clients: int, seconds: float
) -> list[Row]:
    """Start a target, let clients in, and offer it each rate."""
    start, needed = TARGETS[name]
    await servers.start(*needed)
    rows: list[Row] = []
    async with start(servers, folder) as fed:
        target = fed.target
        tokens = [make_token(fed.secret, f"u{number}") for number in range(clients)]
        crowd = Crowd(target.speech, target.addresses, clients, tokens=tokens, cpus=LOAD, ack_every=ACKS)
        async with crowd:
            opened = await crowd.open(OPENING)
            if opened.joined < clients:
                raise TimeoutError(f"{target.name}: {clients - opened.joined} clients did not get in")
            sent = 0
            for rate in rates:
                for length in (WARM, seconds):
                    rounds = max(1, round(rate * length / clients))
                    stores: dict[str, int] = {each: servers.pid(each) for each in needed}
                    own, others = cpu_seconds(target.pids), cpu_seconds(stores)
                    await crowd.report()
                    where = ("--kafka", servers.address("kafka"), "--topic", fed.topic)
                    await publish(*where, rate=rate, rounds=rounds, clients=clients, first=sent)
                    sent += rounds
                    await crowd.expect(sent, PATIENCE)
                    seen = await crowd.report()
                rows.append(
                    Row(
                        target=target.name,
                        rate=rate,
                        deliveries=seen.received,
                        own=since(target.pids, own),
                        stores=since(stores, others),
                        p50=seen.percentile(0.5),
                        p99=seen.percentile(0.99),
                        wrong=seen.wrong,
                    )
                )
                said = f"{rows[-1].a_second:,.0f} deliveries/CPU-s, {rows[-1].wrong} wrong"
                print(f"{target.name}, {rate:,.0f} records/s: {said}", file=sys.stderr)
    return rows


async def run(given: argparse.Namespace) -> list[Row]:
    """Measure every target in every round."""
    os.sched_setaffinity(0, LOAD)
    rows: list[Row] = []
    for _ in range(given.rounds):
        for name in given.only:
            with (
                tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder,
                Servers(Path(folder) / "servers") as servers,
            ):
                options = {"clients": given.clients, "seconds": given.seconds}
                rows += await measure(servers, Path(folder), name, given.rates, **options)
    return rows


COLUMNS: Final = (
    "target", "records/s", "deliveries/CPU-s", "with the servers'", "p50 ms", "p99 ms", "wrong", "own CPU-s",
    "servers' CPU-s",
)  # fmt: skip


def report(rows: Sequence[Row]) -> None:
    """Print a line for each target and rate."""
    lines = []
    for target, rate in sorted({(row.target, row.rate) for row in rows}, key=lambda one: (one[1], one[0])):
        mine = [row for row in rows if (row.target, row.rate) == (target, rate)]
        parts = [
            ", ".join(
                f"{name} {median(getattr(row, kind)[name] for row in mine):.1f}" for name in getattr(mine[0], kind)
            )
            for kind in ("own", "stores")
        ]
        figures = [median(getattr(row, name) for row in mine) for name in ("a_second", "with_stores", "p50", "p99")]
        lines.append(
            (target, f"{rate:,.0f}", f"{figures[0]:,.0f}", f"{figures[1]:,.0f}", f"{figures[2]:.1f}",
             f"{figures[3]:.1f}", sum(row.wrong for row in mine), *parts)
        )  # fmt: skip
    show("Kafka to client", COLUMNS, lines)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 1 if anything was lost, repeated or out of order."""
    parser = argparse.ArgumentParser(prog="python -m bench chain", description=__doc__)
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, separated by commas: %(default)s")
    parser.add_argument("--rates", type=numbers, default="5000,10000", help="records/s that are offered: %(default)s")
    parser.add_argument("--seconds", type=number, default=8.0, help="of each rate: %(default)s")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--clients", type=count, default=1_000)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    given = parser.parse_args(arguments)
    given.only = chosen(parser, given.only, TARGETS)
    hush()
    rows = uvloop.run(run(given))
    report(rows)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rows))
    return 1 if any(row.wrong for row in rows) else 0
