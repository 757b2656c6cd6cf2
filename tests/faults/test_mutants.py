"""The harness itself: with a protection switched off, an experiment that passes otherwise finds it out."""

import asyncio
from pathlib import Path

import pytest

from proof.cluster import Cluster
from proof.experiment import experiment
from proof.publishes import dropping
from tests.faults.conftest import MakeCluster

USERS = 20
RATE = 40


async def kill_the_worker(running: Cluster, name: str, out: Path) -> None:
    async with experiment(running, name, out=out, users=USERS, rate=RATE, seconds=15, bound=20) as run:
        for _ in range(3):
            await run.progress(100)
            async with run.fault("kill -9 worker-0"):
                await running.kill("worker-0")


async def lose_the_last_that_is_published(running: Cluster, name: str, out: Path) -> None:
    losing = asyncio.Event()
    running.proxies["redis"].alter(dropping(lambda channel, _: losing.is_set() and b"gw:" in channel))
    running.proxies["redis"].cut()  # the filter is for new connections
    async with experiment(running, name, out=out, users=USERS, rate=RATE, seconds=6, bound=10) as run:
        await run.progress(100)
        async with run.fault("Redis loses what is published, also the last before silence"):
            losing.set()
            await run.wait(lambda: run.load.acknowledged >= 6 * RATE - 1, "all is produced")
            await asyncio.sleep(0.5)  # the fault itself: until workers have published the last
            losing.clear()


async def test_a_worker_that_commits_before_it_appends_is_found_out(cluster: MakeCluster, out: Path) -> None:
    async with cluster(workers=1, store="sqlite", mutant="commit_before_append") as running:
        with pytest.raises(AssertionError, match="I1 BROKEN"):
            await kill_the_worker(running, "mutant-commit-before-append", out)


async def test_a_gateway_that_trusts_the_bus_is_found_out(cluster: MakeCluster, out: Path) -> None:
    async with cluster(workers=1, store="sqlite", proxies=("redis",), mutant="deaf_to_numbers") as running:
        with pytest.raises(AssertionError, match="I1 BROKEN"):
            await lose_the_last_that_is_published(running, "mutant-deaf-to-numbers", out)


async def test_without_a_mutation_the_same_experiments_pass(cluster: MakeCluster, out: Path) -> None:
    async with cluster(workers=1, store="sqlite", proxies=("redis",)) as running:
        await kill_the_worker(running, "no-mutant-killed", out)
        await lose_the_last_that_is_published(running, "no-mutant-published", out)
