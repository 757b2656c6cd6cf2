"""The difference between the topics that are wanted and those of a cluster, as values; nothing is touched here."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from streams.topics import Wanted

TOPIC_LEVEL: Final = 1  # Kafka's number for a value that was set on the topic itself


class Setting(msgspec.Struct, frozen=True):
    """A configuration value of a topic in the cluster; `own` says that it was set on the topic itself."""

    value: str | None
    own: bool


class Actual(msgspec.Struct, frozen=True):
    """A topic as the cluster has it."""

    partitions: int
    replication: int
    config: dict[str, Setting]


class Create(msgspec.Struct, frozen=True, tag="create"):
    """The topic is made; before that, `incarnation` is noted in the store (None: it has none)."""

    topic: Wanted
    incarnation: int | None

    def line(self) -> str:
        """Return it for people."""
        return f"create   {self.topic.name} ({self.topic.partitions} partitions, {self.topic.replication} replicas)"


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """Values of the topic are changed: {key: (from, to)}; `config` is all that is then set on the topic itself."""

    name: str
    values: dict[str, tuple[str | None, str]]
    config: dict[str, str]

    def line(self) -> str:
        """Return it for people."""
        values = ", ".join(f"{key} {old or 'unset'} -> {new}" for key, (old, new) in self.values.items())
        return f"change   {self.name}: {values}"


class Note(msgspec.Struct, frozen=True, tag="note"):
    """The topic exists and the store does not know how often it was made: its first incarnation is noted."""

    name: str
    incarnation: int = 1

    def line(self) -> str:
        """Return it for people."""
        return f"note     {self.name}: incarnation {self.incarnation} in the store"


class Refuse(msgspec.Struct, frozen=True, tag="refuse"):
    """The topic has another number of partitions; changing it would break the order of logs."""

    name: str
    partitions: int
    wanted: int

    def line(self) -> str:
        """Return it for people."""
        return f"REFUSED  {self.name}: would re-key ({self.partitions} partitions, topics.yaml says {self.wanted})"


class Replicas(msgspec.Struct, frozen=True, tag="replicas"):
    """The topic has another number of replicas; Kafka's own tool moves them, `apply` does not."""

    name: str
    replication: int
    wanted: int

    def line(self) -> str:
        """Return it for people."""
        return (
            f"differs  {self.name}: {self.replication} replicas, topics.yaml says {self.wanted}; "
            f"move them with kafka-reassign-partitions"
        )


Change = Create | Configure | Note | Refuse | Replicas


def plan(wanted: Sequence[Wanted], actual: Mapping[str, Actual], incarnations: Mapping[str, int]) -> list[Change]:
    """Return what separates the cluster and the store from what is wanted, in the order of `wanted`."""
    changes: list[Change] = []
    for topic in wanted:
        found = actual.get(topic.name)
        if found is None:
            number = incarnations.get(topic.name, 0) + 1 if topic.source else None
            changes.append(Create(topic, number))
        else:
            changes += _differences(topic, found)
            if topic.source and topic.name not in incarnations:
                changes.append(Note(topic.name))
    return changes


def _differences(topic: Wanted, found: Actual) -> list[Change]:
    if found.partitions != topic.partitions:
        return [Refuse(topic.name, found.partitions, topic.partitions)]
    changes: list[Change] = []
    if found.replication != topic.replication:
        changes.append(Replicas(topic.name, found.replication, topic.replication))
    values = {
        key: (_value(found, key), value)
        for key, value in topic.config.items()
        if not same_value(_value(found, key), value)
    }
    if values:
        own = {key: setting.value for key, setting in found.config.items() if setting.own and setting.value is not None}
        changes.append(Configure(topic.name, values, {**own, **topic.config}))
    return changes


def _value(found: Actual, key: str) -> str | None:
    setting = found.config.get(key)
    return None if setting is None else setting.value


def same_value(actual: str | None, wanted: str) -> bool:
    """Say whether two configuration values mean the same: Kafka writes floats and lists in its own way."""
    if actual is None or actual == wanted:
        return actual == wanted
    try:
        return float(actual) == float(wanted)
    except ValueError:
        return actual.replace(" ", "") == wanted.replace(" ", "")


def refusal(changes: Sequence[Change]) -> str:
    """Return why a plan is refused and what can be done, in one sentence; empty if it is not."""
    refused = [change for change in changes if isinstance(change, Refuse)]
    if not refused:
        return ""
    topics = ", ".join(f"{change.name} ({change.partitions} -> {change.wanted} partitions)" for change in refused)
    return (
        f"would re-key: {topics}; users would move to other partitions and their logs would get a second source. "
        f"Say partitions: {refused[0].partitions} in topics.yaml (or choose the other TOCSIN_PROFILE), "
        f"or start anew under another TOCSIN_PREFIX"
    )


def verdict(changes: Sequence[Change]) -> Literal["equal", "pending", "refused"]:
    """Say what a plan comes to; other replica counts are shown but are nothing that `apply` could do."""
    if any(isinstance(change, Refuse) for change in changes):
        return "refused"
    return "pending" if any(not isinstance(change, Replicas) for change in changes) else "equal"
