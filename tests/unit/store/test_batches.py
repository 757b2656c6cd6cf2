import struct
from collections.abc import Hashable

import pytest
from cassandra.query import BatchType
from hypothesis import given
from hypothesis import strategies as st

from store.batches import (
    BATCH_ROWS,
    Group,
    Segment,
    batch,
    new_buckets,
    rounds,
    routing_key,
)
from store.buckets import bucket_of
from store.wire import BATCH_BYTES, integer
from tests.contract.samples import entries, row
from tests.unit.store.requests import bigint, sent, sent_of


def anywhere(_: bytes) -> Hashable:
    return None


def values_of(written: bytes) -> tuple[bytes, ...]:
    """Return the values of a row that is written: how many there are, then each after its size."""
    (count,), at, values = struct.unpack_from(">H", written), 2, []
    while at < len(written):
        (size,) = struct.unpack_from(">i", written, at)
        values.append(written[at + 4 : at + 4 + size])
        at += 4 + size
    assert len(values) == count
    return tuple(values)


def rows_of(segment: Segment) -> list[tuple[bytes, ...]]:
    return [values_of(written) for written in segment.written]


def seqs(group: Group) -> list[int]:
    return [struct.unpack(">q", values[2])[0] for segment in group.segments for values in rows_of(segment)]


def test_one_row_for_each_of_many_logs_travels_in_few_batches() -> None:
    appends = [append for number in range(180) for append in entries(f"log{number}", 1, 1, 1)]
    (groups,) = rounds(appends, anywhere)
    assert [group.rows for group in groups] == [BATCH_ROWS] * 4 + [20]


@pytest.mark.parametrize(
    ("logs", "sizes"),
    [(1, [1]), (4, [4]), (6, [4, 2]), (16, [4] * 4), (18, [5, 5, 5, 3]), (40, [10] * 4), (170, [40] * 4 + [10])],
)
def test_few_logs_travel_in_several_batches_that_wait_for_the_commit_log_together(logs: int, sizes: list[int]) -> None:
    (groups,) = rounds([append for number in range(logs) for append in entries(f"log{number}", 1, 1, 1)], anywhere)
    assert [len(group.segments) for group in groups] == sizes


def test_rows_of_one_log_that_need_more_than_a_batch_go_one_round_after_the_other() -> None:
    planned = rounds(entries("log", 1, 1, 100), anywhere)
    assert [[seqs(group) for group in groups] for groups in planned] == [
        [list(range(1, 41))],
        [list(range(41, 81))],
        [list(range(81, 101))],
    ]


def test_two_appends_of_one_log_keep_their_order() -> None:
    planned = rounds([*entries("log", 1, 1, 1), *entries("other", 1, 7, 7), *entries("log", 1, 2, 2)], anywhere)
    assert [[seqs(group) for group in groups] for groups in planned] == [[[1, 7]], [[2]]]


def test_a_bucket_ends_a_segment() -> None:
    planned = rounds(entries("log", 1, 4_094, 4_097), anywhere)
    assert [seqs(groups[0]) for groups in planned] == [[4_094, 4_095], [4_096, 4_097]]


def test_large_rows_stay_below_the_size_at_which_cassandra_warns() -> None:
    planned = rounds(entries("log", 1, 1, 8, size=20_000), anywhere)
    assert [seqs(groups[0]) for groups in planned] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert all(group.size <= BATCH_BYTES for groups in planned for group in groups)


def test_a_row_larger_than_a_batch_travels_alone() -> None:
    planned = rounds(entries("log", 1, 1, 2, size=BATCH_BYTES + 1), anywhere)
    assert [seqs(groups[0]) for groups in planned] == [[1], [2]]


def test_logs_of_different_replicas_travel_apart() -> None:
    appends = [append for number in range(60) for append in entries(f"log{number}", 1, 1, 1)]
    (groups,) = rounds(appends, len)  # one node for the keys of one digit, another for those of two
    assert [group.rows for group in groups] == [10, 15, 15, 15, 5]
    assert all(len({len(segment.key) for segment in group.segments}) == 1 for group in groups)


def test_only_the_last_row_of_a_segment_carries_the_head() -> None:
    (groups,) = rounds(entries("log", 9, 3, 5), anywhere)
    *before, last = rows_of(groups[0].segments[0])
    assert [len(values) for values in before] == [16, 16]
    expected = row(5)
    place = (bigint(5), bigint(expected.src), bigint(expected.n))
    expiry = (bigint(expected.expiring), bigint(expected.latest))
    assert last[:5] == (b"log", integer(0), *place)
    assert last[-8:] == (*expiry, *place, *expiry, bigint(9))


def test_a_batch_is_written_as_the_driver_itself_writes_it() -> None:
    (groups,) = rounds([*entries("log", 9, 3, 5), *entries("other", 9, 1, 1)], anywhere)
    statement = batch(groups[0], b"row", b"last")
    assert statement.batch_type is BatchType.UNLOGGED
    assert statement.routing_key == routing_key(b"log", integer(0)) == b"\0\3log\0\0\4\0\0\0\0\0"
    ids = [b"row", b"row", b"last", b"last"]
    rows = [values for segment in groups[0].segments for values in rows_of(segment)]
    parts = [(True, id_, values) for id_, values in zip(ids, rows, strict=True)]
    assert sent(statement) == sent_of(parts)


def test_each_bucket_but_the_first_is_announced_with_its_first_row() -> None:
    assert new_buckets(entries("log", 1, 1, 4_095)) == []
    assert new_buckets(entries("log", 1, 4_095, 8_192)) == [("log", 1), ("log", 2)]
    assert new_buckets(entries("log", 1, 4_097, 5_000)) == []


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(struct.error):
        rounds(entries("log", 1, 1 << 63, 1 << 63), anywhere)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(4_000, 4_200), st.integers(1, 130), st.integers(0, 9_000)),
        max_size=6,
    )
)
def test_every_row_travels_once_in_order_and_within_the_bounds(parts: list[tuple[str, int, int, int]]) -> None:
    appends = [
        append for log, first, count, size in parts for append in entries(log, 1, first, first + count - 1, size=size)
    ]
    travelled: dict[str, list[int]] = {}
    for groups in rounds(appends, anywhere):
        logs = [rows_of(segment)[0][0] for group in groups for segment in group.segments]
        assert len(logs) == len(set(logs))  # one segment a log and round
        for group in groups:
            assert group.rows <= BATCH_ROWS
            assert group.size <= BATCH_BYTES
            for segment in group.segments:
                log, bucket, *_ = rows_of(segment)[0]
                numbers = [struct.unpack(">q", values[2])[0] for values in rows_of(segment)]
                assert {bucket_of(number) for number in numbers} == {struct.unpack(">i", bucket)[0]}
                travelled.setdefault(log.decode(), []).extend(numbers)
    expected: dict[str, list[int]] = {}
    for append in appends:
        expected.setdefault(append.log, []).extend(entry.seq for entry in append.rows)
    assert travelled == expected
