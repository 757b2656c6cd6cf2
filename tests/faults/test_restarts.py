"""Workers and gateways cut off, restarted, added and taken away: experiments 2, 3 and 4 of the fault matrix."""

import asyncio
from pathlib import Path

from proof.experiment import experiment
from tests.faults.conftest import MakeCluster
from tests.faults.offsets import an_owner


async def test_a_worker_killed_while_kafka_is_cut_off_for_5_s_loses_nothing(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=2, proxies=("kafka",)) as running,
        experiment(running, "kafka-cut", out=out, rate=250, seconds=45, at_least=10_000, throughout=True) as run,
    ):
        kafka = running.proxies["kafka"]
        for name in running.workers:
            await run.progress(1_000)
            async with run.fault(f"Kafka cut for 5 s, kill -9 {name}"):
                kafka.refuse()
                kafka.cut()
                await asyncio.sleep(2.5)  # the fault itself, and the same below
                await running.kill(name)
                await asyncio.sleep(2.5)
                await kafka.heal()
            await running.owned()


async def test_a_rolling_restart_by_sigterm_loses_and_repeats_nothing(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=2, gateways=2) as running,
        experiment(
            running, "rolling-restart", out=out, rate=250, seconds=45, bound=15, at_least=10_000, throughout=True
        ) as run,
    ):
        for name in (*running.workers, *running.gateways):
            await run.progress(500)
            async with run.fault(f"SIGTERM {name}"):
                await running.restart(name)
            await running.ready(name)
            await running.owned()
    assert not running.exits  # none ended but those that were told to


async def test_workers_from_1_to_3_and_back_under_load_lose_nothing(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=1) as running,
        experiment(
            running, "workers-1-3-1", out=out, rate=250, seconds=45, bound=45, at_least=10_000, throughout=True
        ) as run,
    ):
        await run.progress(500)
        async with run.fault("two workers more"):
            added = [await running.add("worker"), await running.add("worker")]
            await an_owner(running, added)  # with few partitions the other may stand by
            await running.owned()
        await run.progress(1_000)
        async with run.fault("SIGTERM both, for good"):
            await asyncio.gather(*(running.down(name) for name in added))
        await running.owned()
        await run.progress(1_000)
