"""Cassandra goes, or takes its time: experiment 9 of the fault matrix."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from proof.experiment import Run, experiment
from proof.history import Produce, Produced, read
from proof.watching import Watching
from schemas.ids import source_parts
from schemas.logs import LANES, inbox_log, log_key
from schemas.rows import Head
from store.urls import open_store
from tests.faults.conftest import MakeCluster
from tests.faults.offsets import committed

AWAY = 60.0  # s
SETTLED = 5.0  # s in which what was in flight when the store died is committed or not
SLOW = 5.0  # s that each answer takes
SLOWED = 20.0  # s
USERS = 50


async def test_a_store_that_is_away_for_60_s_loses_nothing_and_nothing_is_committed_before_it_is_stored(
    cluster: MakeCluster, out: Path
) -> None:
    async with (
        cluster(workers=2, gateways=1) as running,
        experiment(running, "store-away", out=out, users=USERS, rate=130, seconds=100, cuts=1, at_least=10_000) as run,
    ):
        await run.progress(2_000)
        async with run.fault(f"Cassandra killed, back after {AWAY:.0f} s"), Watching(running) as watching:
            await running.servers.kill("cassandra")
            await asyncio.sleep(SETTLED)  # the fault itself
            before = await _committed(run)
            await asyncio.sleep(AWAY - SETTLED)  # the fault itself
            after = await _committed(run)
            for name in running.workers:  # what lies in the store is looked at before they add to it
                running.freeze(name)
            await running.servers.start("cassandra")
            heads = await _heads(run)
            for name in running.workers:
                running.thaw(name)
        assert after == before  # while nothing can be stored nothing is committed
        run.notes["memory"] = watching.summary()
        watching.assert_flat()
    assert sum(after.values()) > 0
    assert not list(_committed_and_not_stored(run, after, heads))


async def test_a_store_that_answers_after_5_s_loses_nothing(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=1, gateways=1, proxies=("cassandra",)) as running,
        experiment(running, "store-slow", out=out, users=USERS, rate=200, seconds=52, at_least=10_000) as run,
    ):
        await run.progress(2_000)
        async with run.fault(f"Cassandra answers {SLOW:.0f} s later for {SLOWED:.0f} s"):
            running.proxies["cassandra"].delay(SLOW, "to_client")
            await asyncio.sleep(SLOWED)  # the fault itself
            await running.proxies["cassandra"].heal()


async def _committed(run: Run) -> dict[tuple[str, int], int]:
    """Return what is committed, by lane and partition."""
    found = {lane: await committed(run.cluster, f"notifications.{lane}") for lane in LANES}
    return {(lane, partition): offset for lane, offsets in found.items() for partition, offset in offsets.items()}


async def _heads(run: Run) -> dict[str, Head]:
    """Return the heads of all logs."""
    store = open_store(run.cluster.environment({}, direct=True)["TOCSIN_STORE"])
    await store.open()
    try:
        logs = [log_key(inbox_log(lane), f"u{number}") for lane in LANES for number in range(USERS)]
        return await store.heads(logs)
    finally:
        await store.close()


def _committed_and_not_stored(
    run: Run, offsets: dict[tuple[str, int], int], heads: dict[str, Head]
) -> Iterator[tuple[Produce, Produced]]:
    """Give the records below the committed offsets that lie beyond what their logs had taken."""
    asked: dict[int, Produce] = {}
    for event in read(run.history.path):
        if isinstance(event, Produce):
            asked[event.op] = event
        elif isinstance(event, Produced):
            produce = asked[event.op]
            _, stored = source_parts(heads[log_key(inbox_log(produce.lane), produce.user)].src)
            if stored < event.offset < offsets[produce.lane, event.partition]:
                yield produce, event
