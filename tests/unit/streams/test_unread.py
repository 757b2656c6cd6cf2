"""How many entries are unread: by running counts, and by a look at entries only where these cannot say."""

from collections.abc import Mapping
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rows import Head, Range, Row
from streams.unread import LOOKED_AT, Unread

NOW = 100
entries = st.lists(st.tuples(st.sampled_from([0, 0, 50, 100, 101, 150]), st.booleans()), max_size=12)


def rows_of(entries: list[tuple[int, bool]]) -> list[Row]:
    """Rows as the rule makes them, of (expires, for one device only)."""
    rows: list[Row] = []
    n = expiring = latest = 0
    for seq, (expires, targeted) in enumerate(entries, 1):
        n += not targeted
        if expires and not targeted:
            expiring, latest = expiring + 1, max(latest, expires)
        device = "phone" if targeted else ""
        rows.append(Row(seq, seq, n, "", b"", 1, expires, device, b"", expiring=expiring, latest=latest))
    return rows


def counted(rows: list[Row], read: int) -> tuple[int, Range | None]:
    """Count as a worker does; return also what was looked at."""
    asked = Unread("l", rows[-1].head(()) if rows else Head(), read)
    known: Mapping[Range, list[Row]] = {wanted: [rows[wanted.first - 1]] for wanted in asked.rows()}
    wanted = asked.looked_at(known, NOW)
    looked = rows[wanted.first - 1 : wanted.last] if wanted else []
    expiries = {wanted: [row.expires for row in looked if row.expires and not row.device]} if wanted else {}
    return asked.total(known, expiries, NOW), wanted


def truth(rows: list[Row], read: int) -> int:
    return sum(not row.device and not 0 < row.expires <= NOW for row in rows[read:])


@given(entries, st.integers(0, 13))
def test_the_count_is_exact(given: list[tuple[int, bool]], read: int) -> None:
    rows = rows_of(given)
    assert counted(rows, read)[0] == truth(rows, read)


@given(entries, st.integers(0, 13))
def test_entries_are_looked_at_only_where_some_have_expired_or_may_yet(
    given: list[tuple[int, bool]], read: int
) -> None:
    rows = rows_of(given)
    _, wanted = counted(rows, read)
    assert (wanted is not None) == (
        any(row.expires and not row.device for row in rows[read:]) and rows[-1].latest > NOW
    )


@given(entries, st.integers(0, 13))
def test_of_entries_further_back_those_that_may_not_have_expired_count(
    given: list[tuple[int, bool]], read: int
) -> None:
    rows = rows_of(given)
    with patch("streams.unread.LOOKED_AT", 3):
        count, wanted = counted(rows, read)
    assert truth(rows, read) <= count <= truth([row for row in rows if not row.device], 0) + len(rows)
    assert wanted is None or wanted.last - wanted.first < 3
    before = rows[: max(read, len(rows) - 3)]
    if not before or before[-1].latest <= NOW:
        assert count == truth(rows, read)


@pytest.mark.parametrize("count", [LOOKED_AT, 5 * LOOKED_AT])
def test_a_backlog_that_has_expired_is_not_looked_at(count: int) -> None:
    assert counted(rows_of([(50, False)] * count), 7) == (0, None)
    assert counted(rows_of([(50, False)] * count + [(0, False)]), 7) == (1, None)
    assert counted(rows_of([(50, False)] * count + [(101, False)]), 7)[0] == 1


def test_what_is_read_is_not_unread() -> None:
    rows = rows_of([(0, False)] * 9)
    assert [counted(rows, read)[0] for read in (0, 4, 9, 12)] == [9, 5, 0, 0]


def test_a_read_mark_whose_row_is_missing_counts_from_the_beginning() -> None:
    assert Unread("l", Head(seq=9, n=8), 4).total({}, {}, NOW) == 8
