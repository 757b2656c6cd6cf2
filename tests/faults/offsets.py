"""The group of the workers: who owns partitions, and what is committed, against where the topics end."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from proof.cluster import Cluster

SOURCES: Final = ("notifications.critical", "notifications.normal", "notifications.bulk", "connections", "acks")
PARTITIONS: Final = 4
_LOOK_EVERY: Final = 0.1  # s
_JOINS_WITHIN: Final = 60.0  # s


async def committed(cluster: Cluster, topic: str) -> dict[int, int]:
    """Return what is committed of a topic, by partition."""
    places = [TopicPartition(cluster.prefix + topic, number) for number in range(PARTITIONS)]
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.kafka)
    await admin.start()
    try:
        met = await admin.list_consumer_group_offsets(f"{cluster.prefix}tocsin-inbox", partitions=places)
    finally:
        await admin.close()
    return {place.partition: max(0, met[place].offset) for place in places}


async def behind(cluster: Cluster, sources: Sequence[str] = SOURCES) -> dict[str, tuple[int, int]]:
    """Return (committed, end) by topic/partition, of those partitions in which the two differ."""
    places = [TopicPartition(cluster.prefix + topic, number) for topic in sources for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=cluster.kafka)
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.kafka)
    await consumer.start()
    await admin.start()
    try:
        ends = await consumer.end_offsets(places)
        met = await admin.list_consumer_group_offsets(f"{cluster.prefix}tocsin-inbox", partitions=places)
    finally:
        await admin.close()
        await consumer.stop()
    committed = {place: max(0, met[place].offset) for place in places}  # -1: nothing yet
    return {
        f"{place.topic.removeprefix(cluster.prefix)}/{place.partition}": (committed[place], ends[place])
        for place in places
        if committed[place] != ends[place]
    }


async def all_committed(cluster: Cluster, within: float, *, sources: Sequence[str] = SOURCES) -> None:
    """Return when everything is committed. Raises `AssertionError` that says where commits stand still."""
    end = time.monotonic() + within
    while differing := await behind(cluster, sources):
        if time.monotonic() > end:
            raise AssertionError(f"after {within:.0f} s (committed, end) differ: {differing}")
        await asyncio.sleep(_LOOK_EVERY)


async def an_owner(running: Cluster, names: Sequence[str]) -> str:
    """Return which of some workers owns partitions, as soon as one does. Raises `TimeoutError`."""
    async with asyncio.timeout(_JOINS_WITHIN):
        while True:
            for name in names:
                with contextlib.suppress(OSError):  # it is starting
                    if await running.metric(name, "tocsin_partitions_owned"):
                        return name
            await asyncio.sleep(_LOOK_EVERY)
