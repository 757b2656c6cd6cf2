import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.buckets import READ_ROWS, End, bucket_of, is_full, is_short, last_end, pieces, window
from store.port import Range


@pytest.mark.parametrize(("seq", "bucket"), [(1, 0), (4_095, 0), (4_096, 1), (8_191, 1), (8_192, 2)])
def test_a_bucket_has_4096_seqs(seq: int, bucket: int) -> None:
    assert bucket_of(seq) == bucket


def test_a_bucket_is_full_with_its_last_seq() -> None:
    assert is_full(0, End(1, 4_095, 0, 0))
    assert not is_full(0, End(1, 4_094, 0, 0))
    assert not is_full(1, End(1, 4_096, 0, 0))
    assert not is_full(1, None)


def test_the_window_reaches_one_bucket_to_each_side() -> None:
    assert list(window(0)) == [0, 1]
    assert list(window(5)) == [4, 5, 6]


def test_the_highest_bucket_is_the_end() -> None:
    ends = {0: End(1, 4_095, 1, 1), 1: End(1, 4_100, 2, 2), 2: None}
    assert last_end(ends) == ends[1]


def test_a_bucket_of_a_lower_epoch_than_the_one_before_is_not_the_end() -> None:
    ends = {1: End(1, 8_191, 1, 1), 0: End(2, 4_095, 2, 2), 2: None}
    assert last_end(ends) == ends[0]


def test_a_log_without_heads_has_no_end() -> None:
    assert last_end({0: None, 1: None}) is None


def test_only_a_range_of_one_query_in_the_first_bucket_is_short() -> None:
    assert is_short(Range("log", 1, READ_ROWS))
    assert not is_short(Range("log", 1, READ_ROWS + 1))
    assert not is_short(Range("log", 4_095, 4_096))


@given(first=st.integers(-3, 20_000), count=st.integers(0, 9_000))
def test_pieces_cover_a_range_once_and_stay_in_their_buckets(first: int, count: int) -> None:
    last = first + count - 1
    seqs: list[int] = []
    for bucket, start, end in pieces(Range("log", first, last)):
        assert bucket_of(start) == bucket_of(end) == bucket
        assert start <= end < start + READ_ROWS
        seqs.extend(range(start, end + 1))
    assert seqs == list(range(max(1, first), last + 1))
