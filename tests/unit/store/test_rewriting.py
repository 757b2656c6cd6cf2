"""What is written again under a higher epoch in Cassandra, and when it has to be looked at again."""

import pytest

from store.buckets import End
from store.port import Rewrite
from store.rewriting import Seen, heads_again, places, rows_again
from tests.contract.samples import row

HEAD = End(1, 4_100, 9, 9)
FULL = End(1, 4_095, 7, 7, 3, 8)


def seen(end: End | None, first: int, last: int, rows: range, heads: dict[int, End | None]) -> Seen:
    found = Seen(Rewrite("l", 5, first, last), end, [row(seq) for seq in rows])
    found.heads = heads
    return found


def test_rows_and_the_heads_of_their_buckets_are_written_as_they_were_seen() -> None:
    found = seen(HEAD, 4_094, 4_097, range(4_094, 4_098), {0: FULL, 1: HEAD})
    assert not found.is_torn()
    assert list(places(found)) == [0, 1]
    assert [(*values[:3], values[-1]) for values, _ in rows_again(found)] == [
        ("l", 0, 4_094, 5), ("l", 0, 4_095, 5), ("l", 1, 4_096, 5), ("l", 1, 4_097, 5),
    ]  # fmt: skip
    assert list(heads_again(found)) == [(5, 4_095, 7, 7, 3, 8, "l", 0), (5, 4_100, 9, 9, 0, 0, "l", 1)]


@pytest.mark.parametrize(
    "torn",
    [
        seen(HEAD, 4_094, 4_097, range(4_094, 4_096), {0: FULL, 1: HEAD}),  # set back before the rows were read
        seen(HEAD, 4_094, 4_097, range(0), {0: FULL, 1: HEAD}),
        seen(HEAD, 4_097, 4_097, range(4_097, 4_098), {1: End(2, 4_098, 9, 9)}),  # set back after the first look
        seen(HEAD, 4_094, 4_094, range(4_094, 4_095), {0: End(2, 4_094, 7, 7), 1: HEAD}),
    ],
)
def test_what_was_written_to_between_two_looks_is_looked_at_again(torn: Seen) -> None:
    assert torn.is_torn()


def test_a_log_without_rows_has_nothing_to_write() -> None:
    nothing = seen(None, 1, 9, range(0), {})
    assert not nothing.is_torn()
    assert not places(nothing)
    assert not list(heads_again(nothing))


def test_a_range_beyond_the_head_has_only_the_head_to_write() -> None:
    beyond = seen(HEAD, 9_000, 9_001, range(0), {1: HEAD})
    assert not beyond.is_torn()
    assert list(places(beyond)) == [1]
