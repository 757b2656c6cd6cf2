"""`tocsin lag`: how far workers are behind, by the offsets that Kafka has committed, not by what a worker believes."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError, IncompatibleBrokerVersion, for_code

from cli.kafka import REACH, Refused, admin, consumer
from cli.outputs import Lag, Partition, time_of
from cli.terminal import columns, say, show
from streams.lag import GroupLag, Owner, PartitionLag
from streams.settings import Settings
from streams.topics import app_id, load_topics

OLDEST: Final = 5.0  # s in which the oldest records have to be read
MISSING: Final = -1  # what Kafka says of a partition without a commit


async def show_lag(settings: Settings, role: str, *, watch: float | None, as_json: bool) -> int:
    """Print the lag of a role's group, again every `watch` s; return 0. Raises `TocsinError`."""
    while True:
        group = await group_lag(settings, role)
        if as_json:
            show(_document(group))
        else:
            say(*_lines(group))
        if watch is None:
            return 0
        await asyncio.sleep(watch)


async def group_lag(settings: Settings, role: str) -> GroupLag:
    """Return the lag of a role's group. Raises `TocsinError`."""
    names = load_topics(Path(settings.topics) if settings.topics else None).of_role(role)
    topics = [settings.prefix + name for name in names]
    group = app_id(settings.prefix, role)
    kafka = settings.kafka_options()
    async with admin(kafka) as client:
        tps = await partitions_of(client, topics)
        missing = [topic for topic in topics if topic not in {tp.topic for tp in tps}]
        if missing:
            raise Refused(f"Kafka has no topic {', '.join(missing)}; `tocsin topics apply` makes it")
        node = await _coordinator(client, group)
        committed = await _committed(client, group, node, tps)
        state, owners = await _owners(client, group, node)
    async with consumer(kafka) as reader:
        first, end = await reader.beginning_offsets(tps), await reader.end_offsets(tps)
        if not settings.exact_ends():
            end = {tp: max(at, committed.get(tp) or 0) for tp, at in end.items()}
        known = [
            PartitionLag(
                topic=tp.topic,
                partition=tp.partition,
                first=first[tp],
                end=end[tp],
                committed=committed.get(tp),
                owner=owners.get(tp),
            )
            for tp in tps
        ]
        oldest = await _oldest(reader, [one for one in known if one.lag])
    partitions = [msgspec.structs.replace(one, oldest=oldest.get(_tp(one))) for one in known]
    return GroupLag(group, state, partitions)


def _tp(one: PartitionLag) -> TopicPartition:
    return TopicPartition(one.topic, one.partition)


async def partitions_of(client: AIOKafkaAdminClient, topics: Sequence[str]) -> list[TopicPartition]:
    """Return the partitions of topics, in order; asks for all topics, since asking for one by name may make it."""
    found = {t["topic"]: sorted(p["partition"] for p in t["partitions"]) for t in await client.describe_topics()}
    return [TopicPartition(topic, number) for topic in topics for number in found.get(topic, [])]


async def _coordinator(client: AIOKafkaAdminClient, group: str) -> int:
    """Return the broker that keeps the group; a new cluster makes its topic of offsets when it is first asked."""
    by = time.monotonic() + REACH
    while True:
        try:
            return int(await client.find_coordinator(group))
        except GroupCoordinatorNotAvailableError:
            if time.monotonic() > by:
                raise
        await asyncio.sleep(0.2)


async def _committed(
    client: AIOKafkaAdminClient, group: str, node: int, tps: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    # by name: the embedded Kafka answers nonsense when it is asked for all
    found = await client.list_consumer_group_offsets(group, group_coordinator_id=node, partitions=list(tps))
    return {tp: place.offset for tp, place in found.items() if place.offset != MISSING}


async def _owners(client: AIOKafkaAdminClient, group: str, node: int) -> tuple[str, dict[TopicPartition, Owner]]:
    """Return the group's state and who owns what; nothing where the broker (the embedded one) does not tell."""
    owners: dict[TopicPartition, Owner] = {}
    try:
        answers = await client.describe_consumer_groups([group], group_coordinator_id=node)
    except IncompatibleBrokerVersion:
        return "", {}
    described = [one for answer in answers for one in answer.to_object()["groups"]]
    for one in described:
        if one["error_code"]:
            raise for_code(one["error_code"])(f"group {group}")
        for member in one["members"]:
            owner = Owner(member["member_id"], _instance(member), member["client_host"])
            owners |= dict.fromkeys(_assigned(member["member_assignment"]), owner)
    return (described[0]["state"] if described else ""), owners


def _instance(member: Mapping[str, Any]) -> str:
    """Return the static name: a broker makes the member id of `{name}-{uuid}`, of others of `{client}-{uuid}`."""
    name = str(member["member_id"])[:-37]
    return "" if name == member["client_id"] else name


def _assigned(assignment: bytes) -> list[TopicPartition]:
    return list(ConsumerProtocolMemberAssignment.decode(assignment).partitions()) if assignment else []


async def _oldest(reader: AIOKafkaConsumer, behind: Sequence[PartitionLag]) -> dict[TopicPartition, int]:
    """Return the append time of the first record that is not processed, by partition."""
    wanted = {_tp(one): one.begin for one in behind}
    found: dict[TopicPartition, int] = {}
    if not wanted:
        return found
    reader.assign(list(wanted))
    for tp, offset in wanted.items():
        reader.seek(tp, offset)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(OLDEST):
            while left := [tp for tp in wanted if tp not in found]:
                for tp, records in (await reader.getmany(*left, timeout_ms=500, max_records=len(left))).items():
                    found.setdefault(tp, records[0].timestamp)
                    reader.pause(tp)
    return found


def _document(group: GroupLag) -> Lag:
    now = round(time.time() * 1000)
    partitions = [_partition(one, now) for one in group.partitions]
    return Lag(group.group, group.state, group.lag, group.behind(now), partitions)


def _partition(one: PartitionLag, now: int) -> Partition:
    return Partition(
        topic=one.topic,
        partition=one.partition,
        first=one.first,
        end=one.end,
        committed=one.committed,
        lag=one.lag,
        lost=one.lost,
        behind=one.behind(now),
        oldest=None if one.oldest is None else time_of(one.oldest),
        owner=str(one.owner) if one.owner else None,
    )


def _lines(group: GroupLag) -> list[str]:
    now = round(time.time() * 1000)
    head = ("topic", "partition", "committed", "end", "lag", "behind", "owner")
    lines = columns([head, *(_row(one, now) for one in group.partitions)])
    for one in group.partitions:
        if one.lost:
            lines.append(f"{one.topic}:{one.partition}: Kafka deleted {one.lost} records before they were processed")
        if one.remade:
            place = f"{one.topic}:{one.partition}"
            lines.append(f"{place}: what is committed lies beyond the end: the topic was made again")
    state = f" ({group.state})" if group.state else ""
    return [*lines, f"{group.group}{state}: {group.lag} records, the oldest {group.behind(now):.1f} s old"]


def _row(one: PartitionLag, now: int) -> tuple[str, ...]:
    committed = f"none, from {one.first}" if one.committed is None else str(one.committed)
    behind = "-"
    if one.lag:
        behind = "not known" if one.oldest is None else f"{one.behind(now):.1f} s"
    owner = str(one.owner) if one.owner else "-"
    return one.topic, str(one.partition), committed, str(one.end), str(one.lag), behind, owner
