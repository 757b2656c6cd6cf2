"""The range of a replay: what an operator writes, and the offsets that it stands for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import MAX_PARTITIONS, position_id, position_parts
from streams.replay_range import At, Extent, Offsets, Position, RangeError, parse_bound, resolve, times

NOW = 1_700_000_000_000
ID = position_id(NOW, 2, 1, 17)
EXTENT = Extent(
    "notifications.normal", begin={0: 10, 1: 0, 2: 5}, end={0: 100, 1: 50, 2: 5}, at={NOW: {0: 40, 1: 50, 2: 5}}
)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("1500", Offsets(every=1500)),
        ("0:1500,1:200", Offsets(each={("", 0): 1500, ("", 1): 200})),
        ("notifications.bulk/3:7", Offsets(each={("notifications.bulk", 3): 7})),
        ("-2h", At(NOW - 7_200_000)),
        ("-90s", At(NOW - 90_000)),
        ("2023-11-14T22:13:20Z", At(NOW)),
        ("2023-11-14T23:13:20+01:00", At(NOW)),
        (ID, Position(2, 1, 17)),
    ],
)
def test_a_bound_is_offsets_a_time_or_an_id(text: str, bound: object) -> None:
    assert parse_bound(text, NOW) == bound


@pytest.mark.parametrize(
    "text",
    ["", "0:", ":1", "1:2,", "yesterday", "-2", "-2w", "2023-11-14T22:13:20", "-1:4", "0" * 26, "Z" * 26, ID[:-1]],
)
def test_what_is_no_bound_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(RangeError) as refused:
        parse_bound(text, NOW)
    assert "\n" not in str(refused.value)


@given(
    ts=st.integers(0, (1 << 48) - 1),
    number=st.integers(1, 63),
    partition=st.integers(0, MAX_PARTITIONS - 1),
    offset=st.integers(0, (1 << 44) - 1),
)
def test_an_id_tells_the_position_that_it_was_made_from(ts: int, number: int, partition: int, offset: int) -> None:
    assert position_parts(position_id(ts, number, partition, offset)) == (ts, number, partition, offset)


@given(st.text(max_size=30))
def test_other_texts_are_no_ids(text: str) -> None:
    try:
        parts = position_parts(text)
    except ValueError:
        return
    assert position_id(*parts) == text


def test_without_bounds_it_is_everything_that_kafka_has() -> None:
    assert resolve(EXTENT, None, None) == {0: (10, 100), 1: (0, 50)}


def test_named_partitions_narrow_the_range() -> None:
    assert resolve(EXTENT, Offsets(each={("", 0): 20}), None) == {0: (20, 100)}
    assert resolve(EXTENT, None, Offsets(each={("", 0): 20, ("", 1): 5})) == {0: (10, 20), 1: (0, 5)}
    both = resolve(EXTENT, Offsets(each={("", 0): 20, ("", 1): 0}), Offsets(each={("", 0): 30}))
    assert both == {0: (20, 30)}
    assert resolve(EXTENT, Offsets(each={("notifications.bulk", 0): 20}), None) == {}
    assert resolve(EXTENT, None, None, only=[1]) == {1: (0, 50)}


def test_a_time_is_where_kafka_says() -> None:
    assert times(At(NOW), None, Offsets(every=1)) == [NOW]
    assert resolve(EXTENT, At(NOW), None) == {0: (40, 100)}
    assert resolve(EXTENT, None, At(NOW)) == {0: (10, 40), 1: (0, 50)}


def test_the_record_of_an_id_is_part_of_the_range() -> None:
    assert resolve(EXTENT, Position(2, 1, 17), Position(2, 1, 17)) == {1: (17, 18)}


def test_one_number_for_all_partitions_may_lie_beyond_the_end_of_some() -> None:
    assert resolve(EXTENT, None, Offsets(every=60)) == {0: (10, 60), 1: (0, 50)}
    assert resolve(EXTENT, Offsets(every=60), None) == {0: (60, 100)}
    assert resolve(EXTENT, Offsets(every=0), None) == {0: (10, 100), 1: (0, 50)}


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (Offsets(each={("", 0): 9}), None, "offset 9 of partition 0 is gone: notifications.normal begins at 10 there"),
        (Offsets(every=3), None, "offset 3 of partition 0 is gone"),
        (Position(2, 0, 9), None, "offset 9 of partition 0 is gone"),
        (Position(2, 1, 50), None, "offset 50 of partition 1 is not there: notifications.normal ends at 50 there"),
        (None, Position(2, 1, 50), "offset 50 of partition 1 is not there"),
        (None, Offsets(each={("", 1): 51}), "offset 51 of partition 1 is not there"),
        (Offsets(each={("", 7): 0}), None, "notifications.normal has no partition 7; it has 0 to 2"),
    ],
)
def test_what_is_not_there_is_said(first: Offsets | None, last: Offsets | None, message: str) -> None:
    with pytest.raises(RangeError) as refused:
        resolve(EXTENT, first, last)
    assert message in str(refused.value)


@given(st.integers(0, 120), st.integers(0, 120))
def test_a_range_always_lies_within_what_kafka_has(first: int, last: int) -> None:
    try:
        ranges = resolve(EXTENT, Offsets(every=first), Offsets(every=last))
    except RangeError:
        return
    for partition, (low, high) in ranges.items():
        assert EXTENT.begin[partition] <= low < high <= EXTENT.end[partition]
