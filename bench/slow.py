"""Some clients stop to read while large messages come: `python -m bench slow --help`.

What do the others notice, what does it cost the server in memory, and do those who were slow get everything in the end?
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench.crowd.driver import Crowd
from bench.measure import chosen, count, number, show
from bench.place import PLACES, Place
from bench.publish import publish
from bench.targets import LOAD
from bench.tier import pss
from cli.kafka import hush
from cli.tokens import make_token

CLIENTS: Final = 500
ONE_IN: Final = 10  # of them, one is slow
RATE: Final = 2_000.0  # messages a second
SIZE: Final = 8_000  # bytes of a message: what the network holds for a slow client is full soon
OPENING: Final = 60.0  # s
PATIENCE: Final = 120.0  # s


class Row(msgspec.Struct, frozen=True):
    """One target; latencies in ms, `grown` is what memory the server took for those who did not read, in bytes each.

    `ended` is how many connections the server gave up meanwhile.
    """

    target: str
    p99: float
    p99_beside: float
    grown: float
    ended: int
    wrong: int


async def measure(place: Place, seconds: float) -> Row:
    """Send for some seconds to all, then while one in ten does not read, and let those catch up."""
    target = place.target
    tokens = [make_token(place.secret, f"u{number}") for number in range(CLIENTS)] if target.tokens else []
    rounds, sent = round(RATE * seconds / CLIENTS), 0
    where = (*place.where, "--size", str(SIZE))
    async with Crowd(target.speech, target.addresses, CLIENTS, tokens=tokens, cpus=LOAD) as crowd:
        opened = await crowd.open(OPENING)
        if opened.joined < CLIENTS:
            raise TimeoutError(f"{target.name}: {CLIENTS - opened.joined} clients did not get in")
        for _ in ("to warm up", "to measure"):
            await crowd.report()
            await publish(*where, rate=RATE, rounds=rounds, clients=CLIENTS, first=sent)
            sent += rounds
            await crowd.expect(sent, PATIENCE)
            alone = await crowd.report()
        memory = pss(target.pids)
        await crowd.slow(ONE_IN)
        await publish(*where, rate=RATE, rounds=rounds, clients=CLIENTS, first=sent)
        sent += rounds
        await asyncio.sleep(1)  # far more than the others' latency
        beside = await crowd.report()
        grown = pss(target.pids) - memory
        await crowd.slow(0)
        await crowd.open(OPENING)  # those whom the server gave up come back
        await crowd.expect(sent, PATIENCE)
        seen = await crowd.report()
        return Row(
            target=target.name,
            p99=alone.percentile(0.99),
            p99_beside=beside.percentile(0.99),
            grown=grown / (CLIENTS / ONE_IN),
            ended=beside.closes + seen.closes,
            wrong=alone.wrong + beside.lost + beside.repeated + seen.wrong,
        )


async def run(names: Sequence[str], rounds: int, seconds: float) -> list[Row]:
    """Measure every target in every round."""
    rows = []
    for _ in range(rounds):
        for name in names:
            async with PLACES[name](CLIENTS) as place:
                rows.append(await measure(place, seconds))
            print(f"{rows[-1].target}: {rows[-1].wrong} wrong", file=sys.stderr)
    return rows


def report(rows: Sequence[Row]) -> None:
    """Print a line for each."""
    columns = ("target", "p99 ms", "p99 ms beside the slow", "KB a slow one", "given up", "wrong")
    lines = [(row.target, row.p99, row.p99_beside, row.grown / 1024, row.ended, row.wrong) for row in rows]
    show(
        f"{CLIENTS:,} clients, one in {ONE_IN} does not read; {RATE:,.0f} messages/s of {SIZE:,} bytes", columns, lines
    )


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 1 if in the end anything was lost, repeated or out of order."""
    parser = argparse.ArgumentParser(prog="python -m bench slow", description=__doc__)
    parser.add_argument("--only", default="gateway,centrifuge", help=f"of {', '.join(PLACES)}: %(default)s")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--seconds", type=number, default=10.0, help="that the slow do not read: %(default)s")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    given = parser.parse_args(arguments)
    names = chosen(parser, given.only, PLACES)
    hush()
    rows = uvloop.run(run(names, given.rounds, given.seconds))
    report(rows)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(rows))
    return 1 if any(row.wrong for row in rows) else 0
