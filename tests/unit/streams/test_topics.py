"""topics.yaml: what comes with Tocsin, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.errors import TopicsError
from schemas.ids import MAX_TOPIC_NUMBER
from schemas.limits import MAX_CONTROL_VALUE, MAX_VALUE, largest_message
from schemas.logs import LANES
from streams.topics import WEEK_MS, changelog, default_path, load_topics, parse_topics


def test_every_lane_is_a_topic_of_the_role_inbox_as_are_connections() -> None:
    topics = load_topics()
    assert topics.of_role("inbox") == [f"notifications.{lane}" for lane in LANES] + ["connections", "acks"]


def test_numbers_are_unique_and_fit_into_ids() -> None:
    numbers = [topic.number for topic in load_topics().topics.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(1 <= number <= MAX_TOPIC_NUMBER for number in numbers)


def test_numbers_that_ids_carry_have_not_changed() -> None:
    numbers = {name: topic.number for name, topic in load_topics().topics.items()}
    assert numbers == {
        "notifications.critical": 1,
        "notifications.normal": 2,
        "notifications.bulk": 3,
        "connections": 4,
        "statuses": 5,
        "dead-letters": 6,
        "replays": 7,
        "revocations": 8,
        "acks": 9,
    }


@pytest.mark.parametrize(("profile", "partitions", "replicas", "in_sync"), [("dev", 4, 1, "1"), ("prod", 64, 3, "2")])
def test_all_topics_of_a_profile_have_the_same_sizes(
    profile: str, partitions: int, replicas: int, in_sync: str
) -> None:
    wanted = load_topics().wanted("", profile)
    assert {(w.partitions, w.replication, w.config["min.insync.replicas"]) for w in wanted} == {
        (partitions, replicas, in_sync)
    }


def test_sources_keep_a_week_by_the_brokers_clock_without_a_limit_by_size() -> None:
    for wanted in load_topics().wanted("", "prod"):
        if "changelog" not in wanted.name:
            assert wanted.config["message.timestamp.type"] == "LogAppendTime"
            assert int(wanted.config["retention.ms"]) >= WEEK_MS
            assert wanted.config["retention.bytes"] == "-1"
            assert int(wanted.config["max.message.bytes"]) > MAX_VALUE


def test_control_records_and_dead_letters_fit_into_their_topics() -> None:
    sizes = {w.name: int(w.config["max.message.bytes"]) for w in load_topics().wanted("", "prod")}
    assert min(sizes["connections"], sizes["acks"]) > MAX_CONTROL_VALUE
    assert sizes["dead-letters"] > sizes["notifications.normal"]


def test_kafka_takes_the_largest_record_that_is_written_to_each_topic() -> None:
    for wanted in load_topics().wanted("p.", "prod"):
        assert int(wanted.config["max.message.bytes"]) > largest_message(wanted.name)


def test_every_table_has_a_compacted_changelog_under_the_name_that_faust_gives_it() -> None:
    wanted = {w.name: w for w in load_topics().wanted("p.", "dev")}
    for table in ("connections", "logs"):
        log = wanted[f"p.tocsin-inbox-{table}-changelog"]
        assert log.config["cleanup.policy"] == "compact"
        assert "retention.ms" not in log.config
        assert not log.source


def test_only_what_a_role_consumes_is_a_source() -> None:
    sources = {w.name for w in load_topics().wanted("p.", "dev") if w.source}
    assert sources == {f"p.notifications.{lane}" for lane in LANES} | {"p.connections", "p.acks", "p.statuses"}


def test_names_carry_the_prefix() -> None:
    assert all(w.name.startswith("p.") for w in load_topics().wanted("p.", "dev"))
    assert changelog("p.", "inbox", "connections") == "p.tocsin-inbox-connections-changelog"


def test_what_is_unknown_is_said_with_what_there_is() -> None:
    topics = load_topics()
    with pytest.raises(TopicsError, match=r"no topic .nope.; it has notifications\.critical"):
        topics.number_of("nope")
    with pytest.raises(TopicsError, match=r"no role .nope.; topics\.yaml has inbox"):
        topics.of_role("nope")
    with pytest.raises(TopicsError, match="no profile 'nope'; it has dev, prod"):
        topics.wanted("", "nope")


def changed(**topic: Any) -> bytes:
    document = yaml.safe_load(default_path().read_bytes())
    document["topics"]["notifications.normal"].update(topic)
    return yaml.safe_dump(document).encode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(number=1), "the same number 1"),
        (changed(number=64), r"Expected `int` <= 63"),
        (changed(number=0), r"Expected `int` >= 1"),
        (changed(role="nobody"), "for the role 'nobody'"),
        (changed(colour="red"), "unknown field `colour`"),
        (changed(config={"retention.ms": WEEK_MS - 1}), "at least 604800000"),
        (changed(config={"retention.ms": "7d"}), "at least 604800000"),
        (changed(config={"retention.bytes": 1}), "limit by size"),
        (b"profiles: [", "is not YAML"),
        (b"just words", "Expected `object`"),
    ],
)
def test_a_bad_file_is_one_line_that_says_where(text: bytes, message: str) -> None:
    with pytest.raises(TopicsError, match=message) as caught:
        parse_topics(text, "here.yaml")
    assert str(caught.value).startswith("here.yaml")
    assert "\n" not in str(caught.value)


def test_endless_retention_is_fine() -> None:
    assert parse_topics(changed(config={"retention.ms": -1})).number_of("notifications.normal") == 2


def test_another_file_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_bytes(changed(config={"compression.type": "zstd", "preallocate": True}))
    wanted = {w.name: w for w in load_topics(path).wanted("", "dev")}
    assert wanted["notifications.normal"].config["compression.type"] == "zstd"
    assert wanted["notifications.normal"].config["preallocate"] == "true"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopicsError, match="cannot be read: No such file"):
        load_topics(tmp_path / "none.yaml")
