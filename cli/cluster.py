"""Topics of a real cluster: reads them and carries out the changes that `streams.topics_plan` found."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, for_code

from schemas.errors import TopicsError
from streams.topics import Wanted
from streams.topics_plan import TOPIC_LEVEL, Actual, Configure, Setting, same_value

VISIBLE: Final = 30.0  # s in which new topics must have leaders on every broker that is asked
_EXISTS: Final = 36  # Kafka's code for a topic that is there already


async def actual_topics(client: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, Actual]:
    """Return those of the named topics that exist. Asks for all topics, since asking for one by name may make it."""
    wanted = set(names)
    found = {t["topic"]: t["partitions"] for t in await client.describe_topics() if t["topic"] in wanted}
    configs = await _configs(client, list(found))
    return {
        name: Actual(len(partitions), min(len(p["replicas"]) for p in partitions), configs.get(name, {}))
        for name, partitions in found.items()
        if partitions
    }


async def _configs(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, Setting]]:
    if not names:
        return {}
    answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    resources = [resource for answer in answers for resource in answer.to_object()["resources"]]
    for resource in resources:
        _check(resource["error_code"], resource["resource_name"], resource["error_message"])
    return {r["resource_name"]: dict(_setting(entry) for entry in r["config_entries"]) for r in resources}


def _setting(entry: dict[str, Any]) -> tuple[str, Setting]:
    own = entry["config_source"] == TOPIC_LEVEL if "config_source" in entry else not entry["is_default"]
    return entry["config_names"], Setting(entry["config_value"], own)


async def create(client: AIOKafkaAdminClient, topics: Sequence[Wanted]) -> None:
    """Make topics; one that somebody else made in the meantime is fine. Raises `TopicsError`."""
    if not topics:
        return
    new = [NewTopic(t.name, t.partitions, t.replication, topic_configs=t.config) for t in topics]
    answer = await client.create_topics(new)
    for topic in answer.to_object()["topic_errors"]:
        if topic["error_code"] != _EXISTS:
            _check(topic["error_code"], topic["topic"], topic["error_message"])
    await _visible(client, topics)


async def configure(client: AIOKafkaAdminClient, change: Configure) -> str | None:
    """Set a topic's configuration; return a warning where the broker cannot do that at all (the embedded one).

    The request replaces all that was set on the topic before, which is why `change.config` carries that along.
    """
    resource = ConfigResource(ConfigResourceType.TOPIC, change.name, change.config)
    try:
        answers = await client.alter_configs([resource])
    except IncompatibleBrokerVersion:
        return f"{change.name} stays as it is: this broker cannot change the configuration of a topic"
    for answer in answers:
        for changed in answer.to_object()["resources"]:
            _check(changed["error_code"], changed["resource_name"], changed["error_message"])
    await _in_effect(client, change)
    return None


async def _in_effect(client: AIOKafkaAdminClient, change: Configure) -> None:
    """Wait until the broker shows what the controller has taken: it learns of it a moment later."""
    try:
        async with asyncio.timeout(VISIBLE):
            while not _shows((await _configs(client, [change.name]))[change.name], change):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise TopicsError(f"{change.name} does not show its new configuration after {VISIBLE:.0f} s") from None


def _shows(config: dict[str, Setting], change: Configure) -> bool:
    return all(key in config and same_value(config[key].value, new) for key, (_, new) in change.values.items())


async def _visible(client: AIOKafkaAdminClient, topics: Sequence[Wanted]) -> None:
    sizes = {topic.name: topic.partitions for topic in topics}
    try:
        async with asyncio.timeout(VISIBLE):
            while waiting := sizes.keys() - _led(await client.describe_topics(), sizes):  # noqa: ASYNC110 - the cluster tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise TopicsError(f"no leaders after {VISIBLE:.0f} s for {', '.join(sorted(waiting))}") from None


def _led(described: Iterable[dict[str, Any]], sizes: dict[str, int]) -> set[str]:
    return {
        topic["topic"]
        for topic in described
        if len(topic["partitions"]) >= sizes.get(topic["topic"], 0)
        and all(p["leader"] >= 0 for p in topic["partitions"])
    }


def _check(code: int, name: str, message: str | None) -> None:
    if code:
        error = for_code(code)
        raise TopicsError(f"{name}: {message or error.description or error.message}")
