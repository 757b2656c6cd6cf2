"""Backpressure: 180 s without Kafka, Redis or Cassandra under load: experiments 5, 8 and 9 of the fault matrix."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.latency import Stopwatch
from proof.experiment import Run, experiment
from proof.servers import Name
from proof.watching import Watching
from tests.faults.conftest import MakeCluster

AWAY = 180.0  # s
RATE = 150.0  # records a second, all the time
LANES = {"normal": 0.9, "bulk": 0.1}
FILLING, FILLED = 1_400.0, 35.0  # records a second and s: tables keep some MB of what was written last
CRITICAL = 10.0  # of them in the lane critical, before the outage and after it
NAMES = [f"u{number}" for number in range(50)]
DEVICES = ("phone", "web")
CATCH_UP = 3.0  # times the live rate
LIVE = 2.0  # s behind, at most: then the backlog is worked off
URGENT = 500.0  # ms that the lane critical may take more beside a backlog; 50 on a machine that does nothing else
BACKLOG = 30 * RATE  # records from which on a rate can be told


@pytest.mark.alone
@pytest.mark.parametrize("server", ["kafka", "redis", "cassandra"])
async def test_180_s_without_a_server_cost_no_memory_and_are_caught_up_with_at_three_times_the_live_rate(
    cluster: MakeCluster, out: Path, server: Name
) -> None:
    async with (
        cluster(workers=2, gateways=1) as running,
        experiment(
            running,
            f"{server}-away-180",
            out=out,
            users=NAMES,
            devices=DEVICES,
            rate=RATE - CRITICAL,
            seconds=AWAY + FILLED + 70,
            lanes=LANES,
            at_least=8_000,  # Kafka takes none while it is away
        ) as run,
    ):
        watch = run.devices.swarm.on_entry = Stopwatch("critical")
        await run.load.steady(FILLING, FILLED, NAMES, LANES)  # tables have their share of memory then
        await run.wait(lambda: outstanding(run) < LIVE * RATE, "the tables are filled")
        async with critical(run, watch):
            await run.progress(round(15 * RATE * len(DEVICES)))
        alone = watch.read().p99
        async with run.fault(f"{server} away for {AWAY:.0f} s"), Watching(running) as watching:
            await running.servers.kill(server)
            await asyncio.sleep(AWAY)  # the fault itself
            await running.servers.start(server)
        behind, begun, shown = outstanding(run), time.monotonic(), run.devices.swarm.received
        await run.progress(1_000)  # the server is found again
        async with critical(run, watch):
            await run.wait(lambda: outstanding(run) < LIVE * RATE, "the backlog is worked off")
            took = time.monotonic() - begun
            times = (run.devices.swarm.received - shown) / len(DEVICES) / took / RATE
            await run.progress(round(5 * RATE * len(DEVICES)))
        beside = watch.read().p99
        run.notes |= {"memory": watching.summary(), "ended by themselves": len(running.exits)}
        run.notes |= {"backlog": round(behind), "drained in s": round(took, 2), "times the live rate": round(times, 2)}
        run.notes |= {"critical p99 ms": {"before": round(alone), "while catching up": round(beside)}}
    watching.assert_flat()
    assert not running.exits
    assert behind < BACKLOG or times >= CATCH_UP
    assert beside <= 2 * alone + URGENT


def outstanding(run: Run) -> float:
    """Return how many acknowledged records have not been shown, for a device."""
    return run.load.acknowledged - run.devices.swarm.received / len(DEVICES)


@contextlib.asynccontextmanager
async def critical(run: Run, watch: Stopwatch) -> AsyncIterator[None]:
    """Produce to the lane critical beside the steady load, and measure it anew."""
    watch.begin()
    try:
        async with run.more(CRITICAL, NAMES, "critical"):
            yield
    finally:
        watch.end()
