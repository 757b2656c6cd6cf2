"""A dead letter is the record untouched, with where it lay and why in its headers."""

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from agents.deadletters import ERROR_LENGTH, DeadLetters
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
