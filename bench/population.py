"""Many connections that mostly say nothing: `python -m bench population --help`.

How fast they get in, what they cost in memory (the processes' own, and the kernel's for both ends of a connection) and
in CPU while they are idle, and whether traffic to one in a hundred still arrives.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench.crowd.driver import Crowd
from bench.measure import chosen, counts, cpu_seconds, number, show, spent
from bench.targets import LOAD, SECRET, Stage, Target, centrifuge, gateway, processes_for
from bench.tier import AT_ONCE, Drive, Load, pss, stage
from cli.kafka import hush
from cli.tokens import make_token

TARGETS: Final[Mapping[str, Callable[..., AbstractAsyncContextManager[Target]]]] = {
    "tocsin": gateway,
    "centrifuge": centrifuge,
}
OPENING: Final = 600.0  # s
LONG: Final = 86_400.0  # s that a token lives
ONE_IN: Final = 100  # clients, one of whom is sent messages
RATE: Final = 200.0  # messages a second, to all of those


class Row(msgspec.Struct, frozen=True):
    """One target. Bytes are a connection's; `idle` is cores while nothing but pings happens, `busy` with messages."""

    target: str
    connections: int
    processes: int
    joins: float
    joins_cpu: float
    pss: float
    kernel: float
    idle: float
    busy: float
    delivered: int
    wrong: int
    p50: float
    p99: float
    left: int  # connections that were there at the end


def kernel_bytes() -> int:
    """Return the bytes that the kernel keeps for itself: slabs, and buffers of TCP."""
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    sockets = Path("/proc/net/sockstat").read_text().split("mem ")[1].split()[0]
    return int(memory["Slab"].split()[0]) * 1024 + int(sockets) * 4096


async def measure(ready: Stage, name: str, connections: int, *, seconds: float) -> Row:
    """Let all in, let them be for `seconds`, half of the time with traffic to some."""
    async with TARGETS[name](ready, False, processes=processes_for(connections)) as target:
        tokens = [make_token(SECRET, f"u{number}", ttl=LONG) for number in range(connections)]
        clients = Crowd(target.speech, target.addresses, connections, tokens=tokens, cpus=LOAD, at_once=AT_ONCE)
        async with clients as crowd:
            return await _measured(ready, target, crowd, connections, seconds)


async def _measured(ready: Stage, target: Target, crowd: Crowd, connections: int, seconds: float) -> Row:
    empty, kernel, before = pss(target.pids), kernel_bytes(), cpu_seconds(target.pids)
    opened = await crowd.open(OPENING)
    if opened.joined < connections:
        raise TimeoutError(f"{target.name}: {connections - opened.joined:,} clients did not get in")
    joins_cpu = spent(target.pids, before)
    await asyncio.sleep(2)  # garbage of the handshakes goes
    memory, kernel_memory = pss(target.pids) - empty, kernel_bytes() - kernel
    before = cpu_seconds(target.pids)
    await asyncio.sleep(seconds / 2)
    idle = spent(target.pids, before) / (seconds / 2)
    some = max(1, connections // ONE_IN)
    await crowd.report()
    before, begun = cpu_seconds(target.pids), time.monotonic()
    seen = await Drive(ready, crowd, some).send(Load(RATE), seconds / 2)
    busy = spent(target.pids, before) / (time.monotonic() - begun)
    return Row(
        target=target.name,
        connections=connections,
        processes=len(target.pids),
        joins=opened.joined / opened.seconds,
        joins_cpu=joins_cpu / connections,
        pss=memory / connections,
        kernel=kernel_memory / connections,
        idle=idle,
        busy=busy,
        delivered=seen.received,
        wrong=seen.wrong,
        p50=seen.percentile(0.5),
        p99=seen.percentile(0.99),
        left=seen.connected,
    )


async def run(names: Sequence[str], counts: Sequence[int], *, seconds: float) -> list[Row]:
    """Measure each target with each count of connections, in turn."""
    rows = []
    with stage() as ready:
        for count in counts:
            for name in names:
                row = await measure(ready, name, count, seconds=seconds)
                rows.append(row)
                said = f"{row.joins:,.0f} joins/s, {row.pss / 1024:.1f} KB a connection, {row.idle:.2f} cores idle"
                print(f"{row.target}, {count:,} connections: {said}", file=sys.stderr)
    return rows


COLUMNS: Final = (
    "target", "connections", "processes", "joins/s", "CPU µs a join", "KB PSS each", "KB kernel", "idle, cores",
    "busy, cores", "delivered", "p50 ms", "p99 ms", "wrong", "left",
)  # fmt: skip


def report(rows: Sequence[Row]) -> None:
    """Print a line for each row."""
    lines = [
        (
            row.target, f"{row.connections:,}", row.processes, f"{row.joins:,.0f}", f"{row.joins_cpu * 1e6:,.0f}",
            f"{row.pss / 1024:.1f}", f"{row.kernel / 1024:.1f}", f"{row.idle:.3f}", f"{row.busy:.3f}",
            f"{row.delivered:,}", f"{row.p50:.1f}", f"{row.p99:.1f}", row.wrong, f"{row.left:,}",
        )
        for row in rows
    ]  # fmt: skip
    show("Connections with pings every 25 s; then messages to one in a hundred", COLUMNS, lines)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 1 if a message was lost or a connection did not last."""
    parser = argparse.ArgumentParser(prog="python -m bench population", description=__doc__)
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, separated by commas: %(default)s")
    parser.add_argument(
        "--connections", type=counts, default="20000", help="how many, separated by commas: %(default)s"
    )
    parser.add_argument("--seconds", type=number, default=60.0, help="that they are held: %(default)s")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    given = parser.parse_args(arguments)
    names = chosen(parser, given.only, TARGETS)
    hush()
    rows = uvloop.run(run(names, given.connections, seconds=given.seconds))
    report(rows)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rows))
    return 1 if any(row.wrong or row.left < row.connections for row in rows) else 0
