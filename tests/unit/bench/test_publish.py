"""What is published when, and how it is packed: a publisher that falls behind must not look better for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.publish import EVERYBODY, Schedule, due_of, marked, packed, record
from bench.standin import items


@given(
    rate=st.floats(1, 50_000),
    messages=st.integers(1, 500),
    clients=st.integers(1, 50),
    before=st.integers(0, 500),
    pauses=st.lists(st.integers(0, 100_000), max_size=50),
)
def test_every_message_is_taken_once_in_order_and_never_before_it_is_due(
    rate: float, messages: int, clients: int, before: int, pauses: list[int]
) -> None:
    begin, now = 1_000_000, 1_000_000
    schedule, taken = Schedule(rate, messages, clients, begin, before), []
    for pause in [*pauses, 10**9]:
        now += pause
        due = schedule.take(now)
        assert all(at <= now for _, _, at in due)
        taken += due
    assert schedule.done
    assert [(client, number) for client, number, _ in taken] == [
        (index % clients, index // clients + 1) for index in range(before, before + messages)
    ]
    assert [at for _, _, at in taken] == [begin + int(index * (1e6 / rate)) for index in range(messages)]


def test_what_is_for_everybody_is_numbered_one_by_one() -> None:
    schedule = Schedule(10, 3, 0, 0)
    assert schedule.take(10**9) == [(EVERYBODY, 1, 0), (EVERYBODY, 2, 100_000), (EVERYBODY, 3, 200_000)]


@given(st.lists(st.tuples(st.integers(0, EVERYBODY), st.integers(1, 9), st.integers(0, 10**12)), max_size=9))
def test_a_pack_is_read_as_it_was_made(due: list[tuple[int, int, int]]) -> None:
    assert list(items(packed(due))) == [(client, marked(at, number)) for client, number, at in due]


def test_messages_have_about_the_size_that_is_asked_for() -> None:
    assert 180 <= len(marked(1_000_000_000_000, 1_000)) <= 220
    assert 180 <= len(record("u1234", 1_000_000_000_000, 1_000)) <= 220


@given(st.integers(0, 2**53), st.integers(1, 10**9), st.integers(0, 10_000))
def test_whoever_gets_a_message_can_tell_when_it_was_due(due: int, number: int, size: int) -> None:
    assert due_of(marked(due, number, size)) == due
    assert due_of(record("u1", due, number, size)) == due


def test_a_message_without_a_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="not found"):
        due_of(b"{}")
