"""Gathers what `tocsin doctor` wants to know of Kafka."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from cli import cluster
from cli.doctor import findings
from cli.doctor.findings import Sample
from cli.doctor.permissions import operations
from cli.kafka import admin, consumer, producer
from cli.lag import group_lag, partitions_of
from cli.outputs import Finding
from schemas.limits import largest_message
from schemas.logs import LANES
from schemas.records import Revocation, encode
from streams.partitions import home_partition
from streams.settings import Settings
from streams.topics import Wanted, load_topics
from streams.topics_plan import Actual, Note, Replicas, plan, verdict

SAMPLE: Final = 1_000  # last records of a partition whose keys are looked at
COMMITS: Final = 2.0  # s in which a worker that goes on commits; it does every half second
SAMPLING: Final = 5.0  # s for all of them
LOG_APPEND_TIME: Final = 1  # Kafka's number for records that carry the broker's time
PROBE: Final = Revocation(at=0, until=0, token="tocsin doctor")  # noqa: S106 - it has expired: gateways ignore it


async def examine_kafka(settings: Settings, incarnations: Mapping[str, int] | None) -> list[Finding]:
    """Return the findings about Kafka; `incarnations` are the store's, None: it could not be read.

    Raises `TocsinError` where Kafka cannot be reached.
    """
    described = load_topics(Path(settings.topics) if settings.topics else None)
    wanted = described.wanted(settings.prefix, settings.profile)
    replication = described.profile(settings.profile).replication
    async with admin(settings.kafka_options()) as client:
        actual = await cluster.actual_topics(client, [topic.name for topic in wanted])
        found = await _brokers(client, replication)
    allowed = await operations(settings.kafka_options(), [topic.name for topic in wanted])
    changes = [one for one in plan(wanted, actual, incarnations or {}) if not isinstance(one, Replicas)]
    if incarnations is None:
        changes = [one for one in changes if not isinstance(one, Note)]
    lines = [one.line() for one in changes]
    found.append(findings.judge_topics(lines, refused=verdict(changes) == "refused", store=incarnations is not None))
    found += findings.judge_safety(_safety(actual))
    found += findings.judge_sizes(_sizes(actual), {name: largest_message(name) for name in actual})
    found += findings.judge_permissions(allowed) if allowed is not None else []
    if any(topic.name not in actual for topic in wanted):
        return found  # nothing to be read yet
    before = {(one.topic, one.partition): one.begin for one in (await group_lag(settings, "inbox")).partitions}
    looked = time.monotonic()
    found.append(await _clock(settings))
    lanes = [f"{settings.prefix}notifications.{lane}" for lane in LANES]
    found += findings.judge_samples(await _samples(settings, lanes, actual))
    await asyncio.sleep(max(0.0, looked + COMMITS - time.monotonic()))  # whoever goes on has committed by then
    group = await group_lag(settings, "inbox")
    now = round(time.time() * 1000)
    found += findings.judge_standing(before, group, now)
    return found + findings.judge_lag(group, _retention(wanted, actual), now)


async def _brokers(client: AIOKafkaAdminClient, replication: int) -> list[Finding]:
    brokers = (await client.describe_cluster())["brokers"]
    resource = ConfigResource(ConfigResourceType.BROKER, str(brokers[0]["node_id"]))
    try:
        answers = await client.describe_configs([resource])
        resources = [one for answer in answers for one in answer.to_object()["resources"]]
        entries = [entry for one in resources for entry in one["config_entries"]]
    except (KafkaError, IndexError):  # not allowed, or not known to the embedded one
        entries = []
    values = {entry["config_names"]: entry["config_value"] for entry in entries}
    return findings.judge_brokers(len(brokers), values, replication=replication)


def _safety(actual: Mapping[str, Actual]) -> dict[str, tuple[int, int]]:
    found = {}
    for name, topic in actual.items():
        least = topic.config.get("min.insync.replicas")
        found[name] = (topic.replication, int(least.value) if least and least.value else 1)
    return found


def _sizes(actual: Mapping[str, Actual]) -> dict[str, int]:
    """Return max.message.bytes by topic, where the cluster says it."""
    said = {name: topic.config.get("max.message.bytes") for name, topic in actual.items()}
    return {name: int(one.value) for name, one in said.items() if one and one.value}


def _retention(wanted: Sequence[Wanted], actual: Mapping[str, Actual]) -> dict[str, int]:
    """Return retention.ms by topic: what the cluster says, else what topics.yaml does."""
    found = {}
    for topic in wanted:
        setting = actual[topic.name].config.get("retention.ms")
        value = setting.value if setting and setting.value else topic.config.get("retention.ms", "-1")
        found[topic.name] = int(value)
    return found


async def _clock(settings: Settings) -> Finding:
    """Write a record that means nothing, and compare the time at which the broker took it with ours."""
    async with producer(settings.kafka_options(), idempotent=settings.idempotence) as kafka:
        begun = time.time()
        meta = await kafka.send_and_wait(f"{settings.prefix}revocations", encode(PROBE), PROBE.key)
        middle = (begun + time.time()) / 2
    if meta.timestamp_type != LOG_APPEND_TIME:
        text = "it does not stamp records with its own time (message.timestamp.type is not LogAppendTime)"
        return Finding("clock of Kafka", "warn", text, "run `tocsin topics apply`; the embedded Kafka cannot do it")
    return findings.judge_clock("Kafka", meta.timestamp / 1000 - middle)


async def _samples(settings: Settings, topics: Sequence[str], actual: Mapping[str, Actual]) -> list[Sample]:
    """Look at the keys of the last records of each partition."""
    keys, astray = dict.fromkeys(topics, 0), dict.fromkeys(topics, 0)
    async with admin(settings.kafka_options()) as client:
        tps = await partitions_of(client, topics)
    async with consumer(settings.kafka_options()) as reader:
        first, end = await reader.beginning_offsets(tps), await reader.end_offsets(tps)
        left = {tp: end[tp] for tp in tps if end[tp] > first[tp]}
        reader.assign(list(left))
        for tp in left:
            reader.seek(tp, max(first[tp], end[tp] - SAMPLE))
        by = time.monotonic() + SAMPLING
        while left and time.monotonic() < by:
            for tp, records in (await reader.getmany(*left, timeout_ms=200)).items():
                homes = [home_partition(r.key, actual[tp.topic].partitions) for r in records if r.key is not None]
                keys[tp.topic] += len(homes)
                astray[tp.topic] += sum(home != tp.partition for home in homes)
            for tp in list(left):
                if await reader.position(tp) >= left[tp]:
                    del left[tp]
                    reader.pause(tp)
            await asyncio.sleep(0)
    return [Sample(topic, keys[topic], astray[topic]) for topic in topics]
