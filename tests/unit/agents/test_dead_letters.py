"""A dead letter is the record untouched, with where it lay and why in its headers."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from agents.deadletters import ERROR_LENGTH, DeadLetters
from links.misfits import Misfit
from schemas.limits import KEPT_VALUE
from telemetry.worker import WorkerMetrics


def message(**fields: object) -> SimpleNamespace:
    place = {"topic": "p.notifications.normal", "partition": 3, "offset": 17, "timestamp": 1.5}
    return SimpleNamespace(**{"key": b"k", "value": b"\xff", "headers": None, **place, **fields})


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def letters(registry: CollectorRegistry) -> DeadLetters:
    return DeadLetters("p.dead-letters", WorkerMetrics(registry))


def test_key_value_and_headers_are_kept_and_the_source_is_named(letters: DeadLetters) -> None:
    emit = letters.letter(message(headers=(("trace", b"1"),)), "not_json", "no JSON")
    assert (emit.topic, emit.key, emit.value, emit.partition) == ("p.dead-letters", b"k", b"\xff", None)
    assert emit.headers == (
        ("trace", b"1"),
        ("tocsin-topic", b"p.notifications.normal"),
        ("tocsin-partition", b"3"),
        ("tocsin-offset", b"17"),
        ("tocsin-time", b"1500"),
        ("tocsin-reason", b"not_json"),
        ("tocsin-error", b"no JSON"),
    )


@pytest.mark.parametrize(("key", "value"), [(None, b"v"), (b"k", None), (None, None)])
def test_what_was_null_stays_null(letters: DeadLetters, key: bytes | None, value: bytes | None) -> None:
    emit = letters.letter(message(key=key, value=value), "bad_request", "")
    assert (emit.key, emit.value) == (key, value)


def test_a_long_sentence_is_cut(letters: DeadLetters) -> None:
    emit = letters.letter(message(), "bad_request", "ä" * 10_000)
    assert dict(emit.headers)["tocsin-error"].decode() == "ä" * ERROR_LENGTH


def test_letters_are_counted_by_reason(letters: DeadLetters, registry: CollectorRegistry) -> None:
    for _ in range(3):
        letters.letter(message(), "conflict", "")
    assert registry.get_sample_value("tocsin_dead_letters_total", {"reason": "conflict"}) == 3
    assert registry.get_sample_value("tocsin_dead_letters_total", {"reason": "not_json"}) == 0


def test_headers_that_a_producer_may_not_write_are_left_out_but_for_its_id(letters: DeadLetters) -> None:
    forged = (("tocsin-topic", b"revocations"), ("tocsin-id", b"a"), ("tocsin-truncated", b"value"), ("x", None))
    emit = letters.letter(message(headers=forged), "not_json", "")
    first: list[Any] = list(emit.headers[:3])
    assert first == [("tocsin-id", b"a"), ("x", None), ("tocsin-topic", b"p.notifications.normal")]
    assert "tocsin-truncated" not in dict(emit.headers)


def test_what_was_cut_when_it_was_read_says_itself_why(letters: DeadLetters, registry: CollectorRegistry) -> None:
    cut = Misfit.of("too_large", "over", first=17, kept=b"x" * 10, cut="value=20")
    emit = letters.letter(message(value=cut), "not_json", "no JSON")
    said = dict(emit.headers)
    assert emit.value == b"x" * 10
    assert type(emit.value) is bytes
    assert (said["tocsin-reason"], said["tocsin-error"], said["tocsin-truncated"]) == (
        b"too_large",
        b"over",
        b"value=20",
    )
    assert "tocsin-last-offset" not in said
    assert registry.get_sample_value("tocsin_dead_letters_total", {"reason": "too_large"}) == 1


def test_a_batch_that_cannot_be_read_says_from_where_to_where(letters: DeadLetters) -> None:
    gone = Misfit.of("unreadable", "why", first=9, cut="key,value,headers")
    said = dict(letters.letter(message(key=None, value=gone), "not_json", "").headers)
    assert (said["tocsin-offset"], said["tocsin-last-offset"], said["tocsin-reason"]) == (b"9", b"17", b"unreadable")


def test_a_value_that_a_topic_of_ours_takes_whole_is_cut_for_a_letter(letters: DeadLetters) -> None:
    emit = letters.letter(message(value=b"x" * (KEPT_VALUE + 1)), "bad_request", "")
    assert emit.value == b"x" * KEPT_VALUE
    assert dict(emit.headers)["tocsin-truncated"] == b"value=%d" % (KEPT_VALUE + 1)


def test_a_shorter_letter_stands_by(letters: DeadLetters) -> None:
    spare = letters.letter(message(headers=(("a", b"b"),)), "not_json", "no JSON").spare
    assert spare is not None
    assert (spare.topic, spare.key, spare.value) == ("p.dead-letters", None, b"")
    said = dict(spare.headers)
    assert (said["tocsin-offset"], said["tocsin-truncated"]) == (b"17", b"key,value,headers")
    assert "a" not in said
