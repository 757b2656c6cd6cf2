"""Workers that die or freeze: experiments 1 and 19 of the fault matrix."""

import asyncio
import random
from pathlib import Path

import pytest

from proof.experiment import experiment
from tests.faults.conftest import MakeCluster

SESSION_TIMEOUT = 6.0  # s


async def test_a_worker_killed_20_times_in_mid_batch_loses_and_repeats_nothing(cluster: MakeCluster, out: Path) -> None:
    dice = random.Random(1)
    async with (
        cluster(workers=1) as running,
        experiment(running, "worker-killed", out=out, rate=120, seconds=100, at_least=10_000) as run,
    ):
        for _ in range(20):
            await run.progress(dice.randrange(100, 600))
            async with run.fault("kill -9 worker-0"):
                await running.kill("worker-0")


@pytest.mark.quick
async def test_a_worker_killed_twice_loses_and_repeats_nothing(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=1, store="sqlite") as running,
        experiment(
            running, "worker-killed-quick", out=out, users=20, rate=100, seconds=12, late=5, cuts=1, at_least=1_000
        ) as run,
    ):
        for _ in range(2):
            await run.progress(200)
            async with run.fault("kill -9 worker-0"):
                await running.kill("worker-0")


async def test_a_zombie_that_wakes_after_its_partitions_went_to_another_is_not_heard(
    cluster: MakeCluster, out: Path
) -> None:
    async with (
        cluster(workers=2, instances=False, TOCSIN_SESSION_TIMEOUT=str(SESSION_TIMEOUT)) as running,
        experiment(running, "zombie", out=out, rate=250, seconds=45, at_least=10_000) as run,
    ):
        for name in running.workers:
            await run.progress(1_000)
            async with run.fault(f"SIGSTOP {name}"):
                running.freeze(name)
                await asyncio.sleep(SESSION_TIMEOUT + 4)  # the fault itself: longer than the session timeout
                running.thaw(name)
            await running.owned()
