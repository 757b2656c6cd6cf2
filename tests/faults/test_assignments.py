"""Partitions that are assigned away and back within seconds: experiment 24 of the fault matrix."""

import asyncio
import random
from pathlib import Path

from proof.experiment import experiment
from tests.faults.conftest import MakeCluster
from tests.faults.offsets import all_committed, an_owner

TIMES = 20
BOUND = 30.0  # s


async def test_partitions_assigned_away_and_back_20_times_stall_no_commit(cluster: MakeCluster, out: Path) -> None:
    dice = random.Random(24)
    async with cluster(workers=1, instances=False) as running:
        async with experiment(
            running, "away-and-back", out=out, rate=130, seconds=80, bound=BOUND, at_least=10_000, throughout=True
        ) as run:
            guests = [await running.add("worker"), await running.add("worker")]  # one starts while the other owns
            for turn in range(TIMES):
                guest = await an_owner(running, guests)
                async with run.fault(f"turn {turn}: what {guest} has just got is taken back"):
                    await asyncio.sleep(dice.uniform(0, 1))  # the fault itself: recovering, or just at work
                    await running.down(guest, kill=turn % 4 == 0)
                await running.up(guest)
            await asyncio.gather(*(running.down(guest) for guest in guests))
            await running.owned()
            await run.progress(1_000)
        await all_committed(running, BOUND)
