"""`python -m bench [devices|fairness|ladder|latency|priority|whole ...] [--quick]`: tables of figures.

Machines are noisy: compare figures of one run with each other, not with those of another day.

`all` runs what `make bench` does. Besides it `acks`, `broker`, `capacity`, `chain`, `herd`, `inbox`, `population`,
`rebalance`, `recovery`, `rows`, `slow` and `tier` have options of their own: `python -m bench NAME --help`.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial, wraps
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from msgspec import to_builtins
from msgspec.json import encode

from bench import (
    acks,
    broker,
    capacity,
    chain,
    devices,
    fairness,
    herd,
    inbox,
    ladder,
    latency,
    population,
    priority,
    rebalance,
    recovery,
    rows,
    slow,
    suite,
    tier,
    whole,
)
from bench.measure import show
from cli.deployment import Ready, deployment
from cli.kafka import hush
from schemas.errors import TocsinError

RATES = (50.0, 500.0)  # records a second


Figures = list[dict[str, Any]]  # of each run
Start = Callable[[], AbstractAsyncContextManager[Ready]]  # a fresh deployment for the time of the context


def deployed(bench: Callable[..., Awaitable[Figures]]) -> Callable[..., Awaitable[Figures]]:
    """Give a benchmark one deployment for all that it does."""

    @wraps(bench)
    async def run(start: Start, *, quick: bool) -> Figures:
        async with start() as ready:
            return await bench(ready, quick=quick)

    return run


@deployed
async def bench_latency(ready: Ready, *, quick: bool) -> Figures:
    """Print append → client at each rate."""
    rows, found = [], []
    for rate in RATES:
        runs = [await latency.at_rate(ready, rate, 5 if quick else 15) for _ in range(1 if quick else 3)]
        figures = [median(getattr(run, name) for run in runs) for name in ("p50", "p99", "worst")]
        rows.append((f"{rate:.0f} records/s", *figures, min(r.p99 for r in runs), max(r.p99 for r in runs)))
        found += [{"rate": rate, **to_builtins(run)} for run in runs]
    columns = ("append to client, ms", "p50", "p99", "worst", "p99 lowest run", "p99 highest run")
    show("Latency, 100 users connected", columns, rows)
    return found


@deployed
async def bench_whole(ready: Ready, *, quick: bool) -> Figures:
    """Print throughput and CPU of the whole path."""
    scale = 10 if quick else 1
    result = await whole.run(ready, records=100_000 // scale, users=5_000 // scale, connected=1_000 // scale)
    result.print()
    for fault in result.faults[:5]:
        print(fault)
    return [to_builtins(result)]


@deployed
async def bench_priority(ready: Ready, *, quick: bool) -> Figures:
    """Print the latency of `critical` with a queue of `bulk`."""
    rows, found = [], []
    for queued, times in ((50_000, 1),) if quick else ((50_000, 3), (1_000_000, 1)):
        runs = [await priority.run(ready, queued=queued) for _ in range(times)]
        alone, beside = [run[0] for run in runs], [run[1] for run in runs]
        figures = [median(getattr(one, name) for one in ones) for ones in (alone, beside) for name in ("p50", "p99")]
        named = f"{queued:,}, {times} x" if times > 1 else f"{queued:,}"
        rows.append((named, *figures, 2 * figures[1] + 50, median(run[2] for run in runs)))
        found += [
            {"queued": queued, "alone": to_builtins(run[0]), "beside": to_builtins(run[1]), "bulk": run[2]}
            for run in runs
        ]
    columns = ("bulk records queued", "p50 alone", "p99 alone", "p50", "p99", "2 x alone + 50", "bulk records/s")
    show("A critical record, append to client in ms, 20 a second", columns, rows)
    return found


@deployed
async def bench_fairness(ready: Ready, *, quick: bool) -> Figures:
    """Print what other users notice of one who gets half of all traffic."""
    runs = [await fairness.run(ready, seconds=5 if quick else 15) for _ in range(1 if quick else 3)]
    rows = []
    for run in runs:
        even, beside = run.even, run.beside
        named = f"{run.rate:,.0f} of {run.capacity:,.0f}"
        rows.append((named, even.p50, even.p99, beside.p50, beside.p99, beside.p99 / even.p99))
    columns = ("records/s", "p50 evenly spread", "p99", "p50 beside the hot log", "p99", "ratio of p99")
    show("100 users at 40 % of capacity, append to client in ms; one log with half of it", columns, rows)
    return [to_builtins(run) for run in runs]


async def bench_ladder(start: Start, *, quick: bool) -> Figures:
    """Print the latency at shares of the capacity, each on a deployment that the search has not filled."""
    seconds = 5 if quick else 15
    async with start() as ready:
        capacity = await ladder.capacity(ready, seconds=seconds)
    async with start() as ready:
        rungs = await ladder.run(ready, capacity, seconds=seconds)
    rows = [
        (f"{one.share:.0%}", f"{one.rate:,.0f}", one.append.p50, one.append.p99, one.due_p50, one.due_p99, one.wrong)
        for one in rungs
    ]
    columns = ("of the capacity", "records/s", "append p50", "p99", "due p50", "p99", "wrong")
    show(f"To the client in ms, by load; capacity {rungs[0].capacity:,.0f} records/s", columns, rows)
    return [to_builtins(one) for one in rungs]


@deployed
async def bench_devices(ready: Ready, *, quick: bool) -> Figures:
    """Print what many devices of one user cost."""
    results = await devices.run(ready, seconds=5 if quick else 15)
    rows = [
        (
            one.what,
            one.deliveries,
            f"{one.deliveries / one.own:,.0f}",
            f"{one.servers:.1f}",
            one.p50,
            one.p99,
            one.wrong,
        )
        for one in results
    ]
    columns = ("devices", "deliveries", "per own CPU-s", "servers' CPU-s", "due p50 ms", "p99", "wrong")
    show(f"{devices.RATE:,.0f} deliveries/s", columns, rows)
    return [to_builtins(one) for one in results]


BENCHES: dict[str, Callable[..., Awaitable[Figures]]] = {
    "devices": bench_devices,
    "fairness": bench_fairness,
    "ladder": bench_ladder,
    "latency": bench_latency,
    "priority": bench_priority,
    "whole": bench_whole,
}


async def main(names: list[str], *, stack: str, quick: bool) -> Figures:
    """Run benchmarks, each on deployments of its own; return the figures of each run."""
    found: Figures = []
    start = partial(deployment, "--stack", stack, "--gateways", "2")
    for name in names:
        print(f"{name}: starting the {stack} stack ...", file=sys.stderr)
        found += [{"benchmark": name, "stack": stack, **one} for one in await BENCHES[name](start, quick=quick)]
    return found


CHECKS: dict[str, Callable[[Sequence[str]], int]] = {
    "acks": acks.main,
    "all": suite.main,
    "broker": broker.main,
    "capacity": capacity.main,
    "chain": chain.main,
    "herd": herd.main,
    "inbox": inbox.main,
    "population": population.main,
    "rebalance": rebalance.main,
    "recovery": recovery.main,
    "rows": rows.main,
    "slow": slow.main,
    "tier": tier.main,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line: `names`, all if none is given, `quick` and `stack`."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="one short run instead of the median of three")
    parser.add_argument("--stack", choices=("real", "embedded"), default="real")
    parser.add_argument("--json", type=Path, help="also write the figures of each run to this file")
    given = parser.parse_args(arguments)
    for name in given.names:  # not `choices`: with them argparse takes the empty list for a bad name
        if name not in BENCHES:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join([*BENCHES, *CHECKS])}")
    given.names = given.names or list(BENCHES)
    return given


def run(arguments: Sequence[str]) -> int:
    """Run what a command line names; return the exit code."""
    if arguments and arguments[0] in CHECKS:  # these have options of their own
        return CHECKS[arguments[0]](arguments[1:])
    asked = parse(arguments)
    hush()
    figures = uvloop.run(main(asked.names, stack=asked.stack, quick=asked.quick))
    if asked.json:
        asked.json.write_bytes(encode(figures))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except (TocsinError, TimeoutError) as exc:  # it says what to do
        sys.exit(f"bench: {exc}")
