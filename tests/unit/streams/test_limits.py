"""The limit of a log: a rule over its rows that decides the same for whoever asks, in whatever batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import SettingsError
from schemas.rows import Head, Mark, Row
from streams.inbox import Appended, Incoming, Known, Limited, LogState, Verdict, anchored, fold, incoming
from streams.limits import Limit, limit_from

LOG = "inbox/bulk"
EMPTY = LogState(epoch=7, seq=0, src=0, n=0, prints=b"")
THREE_IN_10_S = Limit(3, 10_000_000)


def record(offset: int, ts: int) -> Incoming:
    value = b'{"user":"u1","title":"t"}'
    return incoming(key=b"u1", value=value, ts=ts, place=(3, 1, 0, offset), moved_id=None)


def rows_of(verdicts: list[Verdict]) -> list[Row]:
    return [v.row for v in verdicts if isinstance(v, Appended | Limited)]


def head_of(rows: list[Row]) -> Head:
    marks: tuple[Mark, ...] = tuple(row.mark() for row in reversed(rows))
    return rows[-1].head(marks) if rows else Head()


def kinds(times: list[int], limit: Limit | None = THREE_IN_10_S) -> str:
    _, verdicts = fold(EMPTY, (), [record(i, ts) for i, ts in enumerate(times)], LOG, limit)
    return "".join("+" if isinstance(v, Appended) else "-" for v in verdicts)


def test_as_many_as_the_limit_says_at_once_and_then_one_a_share() -> None:
    assert kinds([0, 0, 0, 0, 0]) == "+++--"
    assert kinds([0, 0, 0, 3_333, 3_334, 6_667]) == "+++-++"
    assert kinds([0, 0, 0, 20_000, 20_000, 20_000, 20_000]) == "++++++-"


def test_a_clock_that_steps_back_lets_no_more_through() -> None:
    assert kinds([9_000, 9_000, 9_000, 0, 0]) == "+++--"


def test_without_a_limit_everything_is_shown() -> None:
    assert kinds([0] * 9, None) == "+" * 9


def test_what_is_over_the_limit_has_expired_for_a_version_that_knows_no_limits() -> None:
    _, verdicts = fold(EMPTY, (), [record(i, ts=1_000) for i in range(4)], LOG, THREE_IN_10_S)
    assert [0 < row.expires <= row.ts for row in rows_of(verdicts)] == [False, False, False, True]


def test_what_is_over_the_limit_keeps_its_place_and_does_not_count() -> None:
    state, verdicts = fold(EMPTY, (), [record(i, 0) for i in range(5)], LOG, THREE_IN_10_S)
    rows = rows_of(verdicts)
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert [row.skip for row in rows] == ["", "", "", "rate_limited", "rate_limited"]
    assert [row.n for row in rows] == [1, 2, 3, 3, 3]
    assert rows[3].frame == b""
    assert state.n == 3


@given(st.lists(st.tuples(st.integers(0, 3_000), st.booleans()), max_size=40))
def test_the_verdicts_are_the_same_in_any_batches_and_under_any_owner(steps: list[tuple[int, bool]]) -> None:
    now, times = 0, []
    for step, _ in steps:
        now += step
        times.append(now)
    records = [record(i, ts) for i, ts in enumerate(times)]
    _, expected = fold(EMPTY, (), records, LOG, THREE_IN_10_S)
    state, marks = EMPTY, tuple[Mark, ...]()
    rows: list[Row] = []
    for one, (_, fails_over) in zip(records, steps, strict=True):
        if fails_over:  # another owner reads the rows
            head = head_of(rows)
            state, marks = anchored(8, head), head.recent
        state, verdicts = fold(state, marks, [one], LOG, THREE_IN_10_S)
        rows += rows_of(verdicts)
    assert rows == rows_of(expected)


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_other_limits_change_nothing_that_was_judged(steps: list[int], before: int, after: int) -> None:
    times = [sum(steps[: i + 1]) for i in range(len(steps))]
    records = [record(i, ts) for i, ts in enumerate(times)]
    _, verdicts = fold(EMPTY, (), records, LOG, Limit(before, 10_000_000))
    head = head_of(rows_of(verdicts))
    state, again = fold(anchored(8, head), head.recent, records, LOG, Limit(after, 10_000_000))
    assert again == [Known(row.mark()) for row in rows_of(verdicts)]
    assert (state.seq, state.n, state.tat) == (head.seq, head.n, head.recent[0].tat)


@given(st.lists(st.integers(0, 4_000), min_size=1, max_size=60), st.integers(1, 6))
def test_no_window_holds_more_than_twice_the_limit(steps: list[int], count: int) -> None:
    times = [sum(steps[: i + 1]) for i in range(len(steps))]
    shown = [ts for ts, kind in zip(times, kinds(times, Limit(count, 10_000_000)), strict=True) if kind == "+"]
    for begin in shown:
        assert sum(begin <= ts < begin + 10_000 for ts in shown) <= 2 * count


def test_a_limit_is_said_as_entries_and_seconds() -> None:
    assert limit_from("600/60", "X") == Limit(600, 60_000_000)
    assert limit_from("1/0.5", "X") == Limit(1, 500_000)
    assert limit_from("", "X") is None


@pytest.mark.parametrize("text", ["600", "0/60", "6/0", "-1/5", "a/b", "6/99999", "9/0.000", "999999999/1"])
def test_anything_else_is_one_clear_line(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^TOCSIN_LIMIT_BULK: "):
        limit_from(text, "TOCSIN_LIMIT_BULK")
