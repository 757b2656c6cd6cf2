"""Gateways beside their peers: `python -m bench tier --help`.

One core holds the connections, the others have Redis, Kafka, the clients and whoever publishes. In each round every
target takes its turn with every load, so that a slow minute of the machine is everybody's; figures are medians of the
rounds.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import psutil
import uvloop

from bench.crowd.driver import Crowd, Seen
from bench.measure import chosen, count, cpu_seconds, number, show, spent
from bench.publish import publish
from bench.targets import LOAD, SECRET, TARGETS, Stage
from cli.kafka import hush
from cli.tokens import make_token
from stack.servers import Kafka, Redis

CLIENTS: Final = 5_000
WARM: Final = 1.0  # s of the load that are not counted
PATIENCE: Final = 20.0  # s that the last messages are waited for
OPENING: Final = 60.0  # s
ACKS: Final = 5.0  # s between the acknowledgements of a client that receives
AT_ONCE: Final = 256  # clients that are on their way in at the same time


class Load(msgspec.Struct, frozen=True):
    """`rate` messages a second, each to one client in turn, or to `everybody`."""

    rate: float
    everybody: bool = False

    def __str__(self) -> str:
        return f"{self.rate:g} messages/s to {'all' if self.everybody else 'one each'}"


LOADS: Final[tuple[Load, ...]] = (Load(1_000), Load(5_000), Load(20_000), Load(5, True), Load(10, True), Load(20, True))


class Row(msgspec.Struct, frozen=True):
    """One target under one load. `cpu` is s of the target's own processes, `feeding` of those that only feed it.

    `redis` is s of Redis, `bytes` what clients received, `joins` connections a second, `pss` bytes a connection.
    """

    target: str
    load: str
    deliveries: int
    cpu: float
    feeding: float
    redis: float
    clients_cpu: float
    bytes: int
    p50: float
    p99: float
    wrong: int
    joins: float
    joins_cpu: float
    pss: float

    @property
    def a_second(self) -> float:
        """Deliveries per CPU-second."""
        return self.deliveries / self.cpu if self.cpu else 0.0


def pss(pids: Mapping[str, int]) -> int:
    """Return the bytes of memory of processes, shared pages shared out."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids.values())


class Drive:
    """A crowd at a target, of which the first `clients` are sent rounds of messages, counted from the first on."""

    def __init__(self, stage: Stage, crowd: Crowd, clients: int) -> None:
        self._stage = stage
        self._crowd = crowd
        self._clients = clients
        self._rounds = 0

    async def send(self, load: Load, seconds: float) -> Seen:
        """Publish for about so long and return what was seen once all has arrived, or patience is at its end."""
        a_round = 1 if load.everybody else self._clients
        rounds = max(1, round(load.rate * seconds / a_round))
        where = ("--redis", self._stage.redis.url)
        options = {"rounds": rounds, "clients": self._clients, "first": self._rounds}
        await publish(*where, rate=load.rate, everybody=load.everybody, **options)
        self._rounds += rounds
        await self._crowd.expect(self._rounds, PATIENCE, clients=self._clients)
        return await self._crowd.report()


async def measure(stage: Stage, name: str, load: Load, *, clients: int, seconds: float, acks: float = ACKS) -> Row:
    """Start a target, let clients in, and put a load on it; they acknowledge every `acks` s where that is known."""
    async with TARGETS[name](stage, load.everybody) as target:
        empty = pss(target.pids)
        tokens = [make_token(SECRET, f"u{number}") for number in range(clients)] if target.tokens else []
        crowd = Crowd(
            target.speech, target.addresses, clients, tokens=tokens, cpus=LOAD, at_once=AT_ONCE, ack_every=acks
        )
        async with crowd:
            before = cpu_seconds(target.pids)
            opened = await crowd.open(OPENING)
            if opened.joined < clients:
                raise TimeoutError(f"{target.name}: {clients - opened.joined} of {clients} clients did not get in")
            joins_cpu = spent(target.pids, before)
            await asyncio.sleep(1)  # garbage of the handshakes goes
            memory = (pss(target.pids) - empty) / clients
            drive = Drive(stage, crowd, clients)
            await drive.send(load, max(WARM, clients / load.rate if not load.everybody else 0))
            redis = {"redis": stage.redis.pid}
            own, feeding, redis_before = map(cpu_seconds, (target.pids, target.feeders, redis))
            crowd_before = (await crowd.report()).cpu
            seen = await drive.send(load, seconds)
            return Row(
                target=target.name,
                load=str(load),
                deliveries=seen.received,
                cpu=spent(target.pids, own),
                feeding=spent(target.feeders, feeding),
                redis=spent(redis, redis_before),
                bytes=seen.bytes,
                clients_cpu=seen.cpu - crowd_before,
                p50=seen.percentile(0.5),
                p99=seen.percentile(0.99),
                wrong=seen.wrong,
                joins=opened.joined / opened.seconds,
                joins_cpu=joins_cpu / clients,
                pss=memory,
            )


@contextmanager
def stage() -> Iterator[Stage]:
    """Start what targets stand on, on the load's cores, for the time of the context."""
    os.sched_setaffinity(0, LOAD)
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
        servers = Path(folder) / "servers"
        with Kafka(servers / "kafka") as kafka, Redis(servers / "redis") as redis:
            yield Stage(kafka, redis, Path(folder))


def _medians(rows: Sequence[Row]) -> list[object]:
    first, rates = rows[0], [row.a_second for row in rows]
    wrong = sum(row.wrong for row in rows)
    return [
        first.target,
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{median(row.cpu for row in rows):.2f}",
        f"{median(row.feeding for row in rows):.2f}",
        f"{median(row.redis for row in rows):.2f}",
        f"{median(row.clients_cpu for row in rows):.2f}",
        f"{median(row.p50 for row in rows):.1f}",
        f"{median(row.p99 for row in rows):.1f}",
        f"{wrong:,}",
        f"{median(row.joins for row in rows):,.0f}",
        f"{median(row.joins_cpu for row in rows) * 1e6:,.0f}",
        f"{median(row.pss for row in rows) / 1024:.1f}",
    ]


COLUMNS: Final = (
    "target", "deliveries/CPU-s", "rounds", "CPU-s", "feeding it", "Redis", "clients'", "p50 ms", "p99 ms", "wrong",
    "joins/s", "CPU µs a join", "KB a connection",
)  # fmt: skip


def report(rows: Sequence[Row], loads: Sequence[Load]) -> None:
    """Print a table a load."""
    for load in loads:
        mine = [row for row in rows if row.load == str(load)]
        by_target = [[row for row in mine if row.target == name] for name in dict.fromkeys(row.target for row in mine)]
        show(f"{load}; {CLIENTS:,} clients", COLUMNS, [_medians(group) for group in by_target])


async def run(names: Sequence[str], loads: Sequence[Load], *, rounds: int, **options: Any) -> list[Row]:
    """Measure and return every row; `options` are those of `measure`."""
    rows: list[Row] = []
    with stage() as ready:
        for number in range(rounds):
            for load in loads:
                for name in names:
                    begun = time.monotonic()
                    row = await measure(ready, name, load, **options)
                    rows.append(row)
                    said = f"{row.a_second:,.0f} deliveries/CPU-s, {row.wrong} wrong ({time.monotonic() - begun:.0f} s)"
                    print(f"round {number + 1} of {rounds}, {row.target}, {load}: {said}", file=sys.stderr)
    return rows


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 1 if anything was lost, repeated or out of order."""
    parser = argparse.ArgumentParser(prog="python -m bench tier", description=__doc__)
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, separated by commas: %(default)s")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--seconds", type=number, default=6.0, help="of each load: %(default)s")
    parser.add_argument("--clients", type=count, default=CLIENTS)
    parser.add_argument("--acks", type=float, default=ACKS, help="s between acknowledgements: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one round of two loads, 3 s each")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    given = parser.parse_args(arguments)
    names = chosen(parser, given.only, TARGETS)
    hush()
    loads, rounds, seconds = LOADS, given.rounds, given.seconds
    if given.quick:
        loads, rounds, seconds = (Load(5_000), Load(10, True)), 1, 3.0
    options = {"seconds": seconds, "clients": given.clients, "acks": given.acks}
    rows = uvloop.run(run(names, loads, rounds=rounds, **options))
    report(rows, loads)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rows))
    return 1 if any(row.wrong for row in rows) else 0
