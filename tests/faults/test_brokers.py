"""Kafka goes, or only seems to be there: experiments 5 and 6 of the fault matrix."""

import asyncio
from pathlib import Path

import pytest

from proof.experiment import experiment
from proof.watching import Watching
from tests.faults.conftest import MakeCluster

HALF_OPEN = 60.0  # s


@pytest.mark.parametrize("away", [20, 60])
async def test_a_killed_broker_that_comes_back_loses_nothing(cluster: MakeCluster, out: Path, away: int) -> None:
    async with (
        cluster(workers=2, gateways=1) as running,
        experiment(running, f"broker-away-{away}", out=out, rate=200, seconds=away + 60, cuts=1, at_least=5_000) as run,
    ):
        await run.progress(2_000)
        before = run.load.acknowledged
        async with run.fault(f"broker killed, back after {away} s"):
            await running.servers.kill("kafka")
            await asyncio.sleep(1)  # what it had answered when it died is read by then
            taken = run.load.acknowledged
            await asyncio.sleep(away - 1)  # the fault itself
            assert run.load.acknowledged == taken >= before  # nothing is acknowledged by nobody
            await running.servers.start("kafka")
        await running.owned()
        run.notes["ended by themselves"] = len(running.exits)


async def test_a_half_open_broker_costs_time_and_nothing_else(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=2, gateways=1, proxies=("kafka",)) as running,
        experiment(running, "broker-half-open", out=out, rate=130, seconds=100, cuts=1, at_least=10_000) as run,
    ):
        await run.progress(2_000)
        async with run.fault(f"Kafka half-open for {HALF_OPEN:.0f} s"), Watching(running) as watching:
            running.proxies["kafka"].hang()
            await asyncio.sleep(HALF_OPEN)  # the fault itself
            await running.proxies["kafka"].heal()
        run.notes["memory"] = watching.summary()
        watching.assert_flat()
        await running.owned()
        await run.progress(2_000)
        for direction in ("to_server", "to_client"):
            async with run.fault(f"FIN {direction}"):
                running.proxies["kafka"].half_close(direction)
            await run.progress(500)
