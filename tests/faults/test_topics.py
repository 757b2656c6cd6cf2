"""A topic that is deleted and made again behind our back: experiment 21 of the fault matrix."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from proof.cluster import Cluster
from proof.experiment import Run, experiment
from tests.faults.conftest import MakeCluster

LANE = "normal"
USERS = [f"u{number}" for number in range(20)]
RATE = 250.0  # records a second
LOAD = 20.0  # s, of each of three loads
NEW_OFFSETS = 1_000_000  # above all that one life of a topic has
SAYS = "was deleted and made again outside `tocsin topics apply`"
PARTITIONS = 4
WITHIN = 30.0  # s


@pytest.mark.parametrize("running_on", [False, True], ids=["stopped", "running"])
async def test_a_topic_made_again_behind_our_back_is_refused_until_it_is_applied(
    cluster: MakeCluster, out: Path, *, running_on: bool
) -> None:
    name = f"topic-made-again-{'running' if running_on else 'stopped'}"
    async with (
        cluster(workers=1, gateways=1, store="sqlite") as running,
        experiment(running, name, out=out, users=USERS, seconds=0, at_least=10_000) as run,
    ):
        written = await _load(run, LOAD)
        for life, records in enumerate((10, 2 * written), 1):  # fewer than were there before, and more
            before = run.devices.swarm.received
            if not running_on:
                await running.down("worker-0")
            said = _refusals(running)
            async with run.fault(f"{LANE} is made again with {records} records"):
                await _make_again(running)
                await _write(running, records)
                if not running_on:
                    await running.up("worker-0")
                await _refused(run, said)
                await running.down("worker-0")
                await _delete(running)
                await running.tocsin("topics", "apply")
                run.load.counted[LANE] = life * NEW_OFFSETS
                await running.up("worker-0")
                await running.owned()
            assert run.devices.swarm.received == before
            written = await _load(run, LOAD)


async def _load(run: Run, seconds: float) -> int:
    """Produce and wait until all of it was shown; return how many records it was."""
    before = run.load.acknowledged
    await run.load.steady(RATE, seconds, USERS, {LANE: 1.0})
    await run.load.settle()
    assert await run.until_all_shown(WITHIN, lambda _device, _id: True)
    return run.load.acknowledged - before


def _refusals(cluster: Cluster) -> int:
    return cluster.log("worker-0").count(SAYS)


async def _refused(run: Run, said: int) -> None:
    """Return when the worker has refused once more."""
    await run.wait(lambda: _refusals(run.cluster) > said, "the worker refuses", WITHIN)


async def _delete(cluster: Cluster) -> None:
    await _administer(cluster, [])


async def _make_again(cluster: Cluster) -> None:
    name = f"{cluster.prefix}notifications.{LANE}"
    config = {"message.timestamp.type": "LogAppendTime"}
    await _administer(cluster, [NewTopic(name, PARTITIONS, 1, topic_configs=config)])


async def _administer(cluster: Cluster, new: Sequence[NewTopic]) -> None:
    """Delete the topic, wait until it is gone, and make it again."""
    name = f"{cluster.prefix}notifications.{LANE}"
    end = time.monotonic() + WITHIN
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.kafka)
    await admin.start()
    try:
        await admin.delete_topics([name])
        while name in await admin.list_topics():
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        if new:
            await admin.create_topics(list(new))
    finally:
        await admin.close()


async def _write(cluster: Cluster, records: int) -> None:
    """Write records that the history does not know: nobody must be shown one, and the operator deletes them."""
    topic = f"{cluster.prefix}notifications.{LANE}"
    producer = AIOKafkaProducer(bootstrap_servers=cluster.kafka, acks="all", linger_ms=5, max_batch_size=256 * 1024)
    await producer.start()
    try:
        for start in range(0, records, 1_000):
            sent = [
                await producer.send(topic, b'{"user": "%s", "title": "new"}' % user, key=user)
                for user in (USERS[at % len(USERS)].encode() for at in range(start, min(records, start + 1_000)))
            ]
            await asyncio.gather(*sent)
    except KafkaError as exc:
        raise AssertionError("the records of the topic that was made again were not taken") from exc
    finally:
        await producer.stop()
