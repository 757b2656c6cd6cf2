"""Where a session starts, what it is sent, what counts as unread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bus import GAP
from schemas.records import Connected
from schemas.rows import Cursor, Device, Row
from streams.connections import (
    merged,
    read_mark,
    standing,
    start_of,
    stored_cursor,
    window,
)

LOG = "inbox/normal"


def said(cursors: dict[str, int] | None = None, epoch: str | None = "e1", device: str = "phone") -> Connected:
    return Connected(user="u", session="s", gateway="g", device=device, epoch=epoch, cursors=cursors)


def start(connected: Connected, head: int, stored: dict[str, int] | None = None, limit: int = 1_000) -> tuple[int, str]:
    cursors = {device: {LOG: Cursor("u", LOG, device, seq, 0)} for device, seq in (stored or {}).items()}
    return start_of(connected, log=LOG, head=head, epoch="e1", cursors=cursors, limit=limit)


def row(seq: int, *, device: str = "", expires: int = 0, frame: bytes = b"{}") -> Row:
    return Row(seq=seq, src=seq, n=seq, key="", digest=b"", ts=5, expires=expires, device=device, frame=frame)


@pytest.mark.parametrize(
    ("connected", "head", "stored", "expected"),
    [
        (said({LOG: 3}), 9, {}, (3, "")),
        (said({LOG: 3}), 9, {"phone": 5}, (3, "")),
        (said(), 9, {"phone": 5}, (5, "")),
        (said(), 9, {"web": 4, "tv": 6}, (6, "")),
        (said(), 9, {}, (0, "")),
        (said({LOG: 3}, epoch="other"), 9, {"phone": 5}, (5, "reset")),
        (said({LOG: 3}, epoch=None), 9, {}, (0, "reset")),
        (said({LOG: 30}), 9, {"phone": 5}, (5, "reset")),
        (said({"inbox/bulk": 3}), 9, {"phone": 5}, (5, "")),
        (said(), 2, {"phone": 5}, (2, "")),
    ],
)
def test_where_a_session_starts(
    connected: Connected, head: int, stored: dict[str, int], expected: tuple[int, str]
) -> None:
    assert start(connected, head, stored) == expected


def test_a_device_too_far_behind_is_told_so() -> None:
    assert start(said({LOG: 10}), 1_011) == (1_011, "too_long")
    assert start(said({LOG: 11}), 1_011) == (11, "")


def cursor(device: str, log: str, delivered: int) -> Cursor:
    return Cursor("u", log, device, delivered, 0)


def test_a_device_starts_in_a_log_without_a_cursor_where_a_new_one_would() -> None:
    cursors = merged([cursor("phone", LOG, 5), cursor("tv", LOG, 9), cursor("tv", "inbox/bulk", 5_000)])
    assert stored_cursor(cursors, "phone", LOG) == 5
    assert stored_cursor(cursors, "phone", "inbox/bulk") == stored_cursor(cursors, "new", "inbox/bulk") == 5_000


def test_a_session_without_a_device_starts_where_a_new_device_would_whatever_was_acknowledged_without_one() -> None:
    cursors = merged([cursor("phone", LOG, 5), cursor("", LOG, 7)])
    assert start(said(device=""), 9, {"phone": 5}) == (5, "")
    assert stored_cursor(cursors, "", LOG) == stored_cursor(cursors, "new", LOG) == 7


def test_a_device_is_known_from_its_first_opening_on() -> None:
    phone = Device("u", "phone", seen=100, starts={LOG: 3})
    cursors = standing("phone", phone, [cursor("", LOG, 9)], oldest=50)
    assert stored_cursor(cursors, "phone", LOG) == 3, "it never acknowledged anything"
    acked = standing("phone", phone, [cursor("", LOG, 9), cursor("phone", LOG, 4)], oldest=50)
    assert stored_cursor(acked, "phone", LOG) == 4


def test_a_device_that_was_not_seen_for_long_is_a_new_one() -> None:
    phone = Device("u", "phone", seen=100, starts={LOG: 3})
    cursors = standing("phone", phone, [cursor("", LOG, 9), cursor("phone", LOG, 4)], oldest=101)
    assert stored_cursor(cursors, "phone", LOG) == 9


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9), st.integers(0, 9))))
def test_cursors_are_merged_by_max_whatever_their_order(items: list[tuple[str, int, int]]) -> None:
    cursors = [Cursor(user="u", log=LOG, device=d, delivered=x, read=y) for d, x, y in items]
    assert merged(cursors) == merged(cursors[::-1])
    for device, x, y in items:
        assert merged(cursors)[device][LOG].delivered >= x
        assert merged(cursors)[device][LOG].read >= y
    assert stored_cursor(merged(cursors), "new", LOG) == max((x for _, x, _ in items), default=0)
    assert read_mark(merged(cursors), LOG) == max((y for *_, y in items), default=0)


def test_an_entry_for_another_device_is_skipped_and_skips_are_joined() -> None:
    rows = [row(1), row(2, device="tv"), row(3, device="tv"), row(4, device="phone")]
    runs = window(rows, log=LOG, device="phone", head=4, now_ms=0, limit_bytes=1_000)
    assert [(run.first, run.last, run.reason) for run in runs] == [(1, 1, ""), (2, 3, "other_device"), (4, 4, "")]


def test_an_entry_past_its_time_is_skipped() -> None:
    runs = window([row(1, expires=10)], log=LOG, device="phone", head=1, now_ms=10, limit_bytes=1_000)
    assert [(run.reason, run.frame) for run in runs] == [("expired", None)]


def test_what_does_not_fit_is_named_as_a_gap() -> None:
    rows = [row(seq, frame=b"x" * 400) for seq in range(1, 6)]
    runs = window(rows, log=LOG, device="phone", head=20, now_ms=0, limit_bytes=1_000)
    assert [(run.first, run.last, run.reason) for run in runs] == [(1, 1, ""), (2, 2, ""), (3, 20, GAP)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=20), st.integers(0, 5), st.integers(1, 900))
def test_the_runs_cover_everything_up_to_the_head_once(
    entries: list[tuple[bool, int]], beyond: int, limit: int
) -> None:
    rows = [row(i + 1, device="tv" if other else "", frame=b"x" * size) for i, (other, size) in enumerate(entries)]
    head = len(rows) + beyond if rows else 0
    runs = window(rows, log=LOG, device="phone", head=head, now_ms=0, limit_bytes=limit)
    covered = [seq for run in runs for seq in range(run.first, run.last + 1)]
    assert covered == list(range(1, head + 1))
