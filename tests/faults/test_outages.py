"""Backpressure: 180 s without Kafka, Redis or Cassandra under load: experiments 5, 8 and 9 of the fault matrix."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench.crowd.driver import Crowd, Seen
from bench.latency import Stopwatch
from bench.publish import publisher
from bench.targets import speaking
from cli.tokens import make_token
from proof.cluster import Cluster
from proof.experiment import Run, experiment
from proof.servers import Name
from proof.watching import Watching
from stack.ports import LOOPBACK
from streams.partitions import home_partition
from tests.faults.conftest import MakeCluster
from tests.faults.offsets import PARTITIONS

AWAY = 180.0  # s
RATE = 150.0  # records a second, all the time
LANES = {"normal": 0.9, "bulk": 0.1}
FILLING, FILLED = 1_400.0, 35.0  # records a second and s: tables keep some MB of what was written last
NAMES = [f"late{number}" for number in range(50)]
CALM = 100  # users u0, u1, … without a backlog: what is urgent is timed by their devices, which are a process in C
CRITICAL = 50.0  # urgent records a second to them, before the outage and after it
CRITICAL_BEHIND = 10.0  # and to those that have a backlog, after it
LATER = 10_000  # number of the first urgent record after the outage
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
            rate=RATE,
            seconds=AWAY + FILLED + 70,
            lanes=LANES,
            at_least=8_000,  # Kafka takes none while it is away
        ) as run,
        crowd(running) as calm,
        urgent(running, first=LATER) as begin,  # has to be connected before the outage
    ):
        watch = run.devices.swarm.on_entry = Stopwatch("critical")
        await run.load.steady(FILLING, FILLED, NAMES, LANES)  # tables have their share of memory then
        await run.wait(lambda: outstanding(run) < LIVE * RATE, "the tables are filled")
        async with urgent(running) as begin_before:
            await enter(calm)
            begin_before()
            await run.progress(round(15 * RATE * len(DEVICES)))
        before = await calm.report()
        async with run.fault(f"{server} away for {AWAY:.0f} s"), Watching(running) as watching:
            await running.servers.kill(server)
            await asyncio.sleep(AWAY)  # the fault itself
            await running.servers.start(server)
        behind, begun, shown = outstanding(run), time.monotonic(), run.devices.swarm.received
        await run.wait(anew(run), "every worker has found the server again")
        await enter(calm)
        begin()
        async with run.more(CRITICAL_BEHIND, NAMES, "critical"):
            watch.begin()
            await run.wait(lambda: outstanding(run) < LIVE * RATE, "the backlog is worked off")
            took = time.monotonic() - begun
            times = (run.devices.swarm.received - shown) / len(DEVICES) / took / RATE
            watch.end()
            await run.progress(round(RATE * len(DEVICES)))  # what is under way arrives
        while_behind = await calm.report()
        run.notes |= {"memory": watching.summary(), "ended by themselves": len(running.exits)}
        run.notes |= {"backlog": round(behind), "drained in s": round(took, 2), "times the live rate": round(times, 2)}
        run.notes |= {"critical": {"before": times_of(before), "while catching up": times_of(while_behind)}}
        run.notes |= {"critical to those behind": msgspec.to_builtins(watch.read())}
    watching.assert_flat()
    assert not running.exits
    assert behind < BACKLOG or times >= CATCH_UP
    assert while_behind.percentile(0.99) <= 2 * before.percentile(0.99) + URGENT


def outstanding(run: Run) -> float:
    """Return how many acknowledged records have not been shown, for a device."""
    return run.load.acknowledged - run.devices.swarm.received / len(DEVICES)


def anew(run: Run) -> Callable[[], bool]:
    """Return a condition: something of each partition has been shown since. A worker has several."""

    def by_partition() -> Counter[int]:
        counts: Counter[int] = Counter()
        for (user, _, _), ids in run.devices.recorder.shown.items():
            counts[home_partition(user.encode(), PARTITIONS)] += len(ids)
        return counts

    before = by_partition()
    return lambda: all(count > before[partition] for partition, count in by_partition().items())


def crowd(running: Cluster) -> Crowd:
    """Return the devices of the calm users, not connected yet."""
    tokens = [make_token(running.secret, f"u{number}") for number in range(CALM)]
    return Crowd(speaking("inbox/critical"), [f"{LOOPBACK}:{running.port}"], CALM, tokens=tokens)


async def enter(calm: Crowd) -> None:
    """Connect those of the crowd that are not, and count anew."""
    opened = await calm.open(30)
    assert opened.joined == CALM
    await calm.report()


def urgent(running: Cluster, first: int = 0) -> contextlib.AbstractAsyncContextManager[Callable[[], None]]:
    """Return a publisher of urgent records to the calm users, numbered from `first`."""
    where = ("--kafka", running.kafka, "--topic", f"{running.prefix}notifications.critical")
    return publisher(*where, rate=CRITICAL, clients=CALM, first=first)


def times_of(seen: Seen) -> dict[str, float]:
    """Return what the calm users' devices noticed: ms since a record was due."""
    return {"p50": seen.percentile(0.5), "p99": seen.percentile(0.99), "count": seen.received}
