"""The difference between topics.yaml and a cluster."""

from hypothesis import given
from hypothesis import strategies as st

from streams.topics import Wanted
from streams.topics_plan import (
    Actual,
    Change,
    Configure,
    Create,
    Note,
    Refuse,
    Replicas,
    Setting,
    plan,
    refusal,
    verdict,
)

TOPIC = Wanted("a", 4, 1, {"retention.ms": "7"}, source=True)
CHANGELOG = Wanted("c", 4, 1, {"cleanup.policy": "compact"}, source=False)


def actual(partitions: int = 4, replication: int = 1, **config: tuple[str, bool]) -> Actual:
    settings = {key.replace("_", "."): Setting(*value) for key, value in config.items()}
    return Actual(partitions, replication, settings)


def test_a_missing_topic_is_made_under_its_first_incarnation() -> None:
    assert plan([TOPIC], {}, {}) == [Create(TOPIC, 1)]


def test_a_topic_that_is_made_again_starts_a_new_incarnation() -> None:
    assert plan([TOPIC], {}, {"a": 3}) == [Create(TOPIC, 4)]


def test_a_changelog_has_no_incarnation() -> None:
    assert plan([CHANGELOG], {}, {}) == [Create(CHANGELOG, None)]


def test_nothing_differs_when_nothing_differs() -> None:
    assert plan([TOPIC], {"a": actual(retention_ms=("7", True))}, {"a": 1}) == []


def test_a_topic_that_the_store_does_not_know_is_noted() -> None:
    assert plan([TOPIC], {"a": actual(retention_ms=("7", True))}, {}) == [Note("a", 1)]


def test_another_value_is_changed_and_what_was_set_otherwise_stays() -> None:
    found = actual(retention_ms=("8", True), segment_ms=("5", True), flush_ms=("9", False))
    (change,) = plan([TOPIC], {"a": found}, {"a": 1})
    assert change == Configure("a", {"retention.ms": ("8", "7")}, {"retention.ms": "7", "segment.ms": "5"})


def test_a_value_that_the_broker_does_not_show_is_set() -> None:
    (change,) = plan([TOPIC], {"a": actual()}, {"a": 1})
    assert isinstance(change, Configure)
    assert change.values == {"retention.ms": (None, "7")}


def test_a_default_of_the_broker_that_is_right_is_left_alone() -> None:
    assert plan([TOPIC], {"a": actual(retention_ms=("7", False))}, {"a": 1}) == []


def test_the_same_value_written_in_another_way_is_no_difference() -> None:
    topic = Wanted("a", 4, 1, {"min.cleanable.dirty.ratio": "0.1", "cleanup.policy": "compact,delete"}, source=False)
    found = actual(min_cleanable_dirty_ratio=("0.10", True), cleanup_policy=("compact, delete", True))
    assert plan([topic], {"a": found}, {}) == []


def test_another_number_of_partitions_is_refused_in_both_directions_and_nothing_else_is_done_to_it() -> None:
    for partitions in (2, 8):
        changes = plan([TOPIC], {"a": actual(partitions)}, {"a": 1})
        assert changes == [Refuse("a", partitions, 4)]
        assert verdict(changes) == "refused"
        assert f"would re-key: a ({partitions} -> 4 partitions)" in refusal(changes)
        assert f"Say partitions: {partitions}" in refusal(changes)


def test_another_number_of_replicas_is_shown_but_is_nothing_to_apply() -> None:
    changes = plan([TOPIC], {"a": actual(4, 3, retention_ms=("7", True))}, {"a": 1})
    assert changes == [Replicas("a", 3, 1)]
    assert verdict(changes) == "equal"
    assert not refusal(changes)


def test_every_change_says_what_it_is_in_one_line() -> None:
    changes: list[Change] = [
        Create(TOPIC, 1), Configure("a", {"k": (None, "1")}, {"k": "1"}), Note("a"), Refuse("a", 1, 2),
        Replicas("a", 1, 2),
    ]  # fmt: skip
    for change in changes:
        assert " a" in change.line()
        assert "\n" not in change.line()


values = st.dictionaries(st.sampled_from(["p", "q", "r"]), st.sampled_from(["1", "2"]))


@given(wanted=values, found=values, incarnations=st.dictionaries(st.just("a"), st.integers(1, 5)))
def test_after_what_is_planned_was_done_nothing_is_left_to_do(
    wanted: dict[str, str], found: dict[str, str], incarnations: dict[str, int]
) -> None:
    topic = Wanted("a", 4, 1, wanted, source=True)
    cluster = {"a": Actual(4, 1, {key: Setting(value, own=True) for key, value in found.items()})}
    for change in plan([topic], cluster, incarnations):
        match change:
            case Configure(name=name, config=config):
                cluster[name] = Actual(4, 1, {key: Setting(value, own=True) for key, value in config.items()})
            case Note(name=name, incarnation=number):
                incarnations = {**incarnations, name: number}
    assert plan([topic], cluster, incarnations) == []
    assert found.items() - wanted.items() <= {(k, found[k]) for k in found}
    assert {key for key in found if key not in wanted} <= cluster["a"].config.keys()
