"""All clients lose their connection, miss some messages, and come back at once: `python -m bench herd --help`."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench.crowd.driver import Crowd
from bench.measure import chosen, count, cpu_seconds, show, since
from bench.place import PLACES, Place
from bench.publish import publish
from bench.targets import LOAD
from cli.kafka import hush
from cli.tokens import make_token

RATE: Final = 4_000.0  # messages a second while they are away
AT_ONCE: Final = 2_000  # connections that a process of clients opens at once
OPENING: Final = 120.0  # s
PATIENCE: Final = 180.0  # s that the last messages are waited for


class Row(msgspec.Struct, frozen=True):
    """One herd. Seconds until all had `joined` and until all were `current`; CPU in s, `own` and that of servers."""

    target: str
    clients: int
    missed: int
    joined: float
    current: float
    own: Mapping[str, float]
    stores: Mapping[str, float]
    wrong: int


async def measure(place: Place, clients: int, missed: int) -> Row:
    """Let clients in, cut them all, publish `missed` messages for each, and let them come back."""
    target = place.target
    tokens = [make_token(place.secret, f"u{number}") for number in range(clients)] if target.tokens else []
    crowd = Crowd(target.speech, target.addresses, clients, tokens=tokens, cpus=LOAD, at_once=AT_ONCE)
    async with crowd:
        opened = await crowd.open(OPENING)
        if opened.joined < clients:
            raise TimeoutError(f"{target.name}: {clients - opened.joined} clients did not get in")
        await publish(*place.where, rate=RATE, rounds=1, clients=clients, first=0)  # now each has a cursor
        await crowd.expect(1, PATIENCE)
        await crowd.report()
        await crowd.cut()
        await publish(*place.where, rate=RATE, rounds=missed, clients=clients, first=1)
        await place.rest()
        own, stores, begun = cpu_seconds(target.pids), cpu_seconds(place.stores), time.monotonic()
        opened = await crowd.open(OPENING)
        await crowd.expect(1 + missed, PATIENCE)
        current = time.monotonic() - begun
        seen = await crowd.report()
        return Row(
            target=target.name,
            clients=clients,
            missed=missed,
            joined=opened.seconds,
            current=current,
            own=since(target.pids, own),
            stores=since(place.stores, stores),
            wrong=seen.wrong + clients - seen.connected,
        )


async def run(names: Sequence[str], clients: int, missed: int, rounds: int) -> list[Row]:
    """Measure every target in every round."""
    rows = []
    for _ in range(rounds):
        for name in names:
            async with PLACES[name](clients) as place:
                row = await measure(place, clients, missed)
            rows.append(row)
            print(f"{row.target}: all current after {row.current:.1f} s, {row.wrong} wrong", file=sys.stderr)
    return rows


def report(rows: Sequence[Row]) -> None:
    """Print a line for each herd."""
    columns = ("target", "clients", "missed", "all in, s", "all current, s", "wrong", "own CPU-s", "servers' CPU-s")
    lines = [
        (
            row.target, f"{row.clients:,}", row.missed, row.joined, row.current, row.wrong,
            _named(row.own), _named(row.stores),
        )
        for row in rows
    ]  # fmt: skip
    show("A herd that comes back at once", columns, lines)


def _named(used: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items())


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 1 if a client stayed away, missed a message or got one twice."""
    parser = argparse.ArgumentParser(prog="python -m bench herd", description=__doc__)
    parser.add_argument("--only", default="gateway,centrifuge", help=f"of {', '.join(PLACES)}: %(default)s")
    parser.add_argument("--clients", type=count, default=10_000)
    parser.add_argument("--missed", type=count, default=2, help="messages that each misses: %(default)s")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    given = parser.parse_args(arguments)
    names = chosen(parser, given.only, PLACES)
    hush()
    rows = uvloop.run(run(names, given.clients, given.missed, given.rounds))
    report(rows)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rows))
    return 1 if any(row.wrong for row in rows) else 0
