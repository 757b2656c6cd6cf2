"""What committed offsets say about how far a group is behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.lag import GroupLag, Owner, PartitionLag


def partition(committed: int | None, *, first: int = 0, end: int = 10, oldest: int | None = None) -> PartitionLag:
    return PartitionLag(topic="t", partition=0, first=first, end=end, committed=committed, oldest=oldest)


@pytest.mark.parametrize(
    ("one", "lag", "lost", "remade"),
    [
        (partition(10), 0, 0, False),
        (partition(4), 6, 0, False),
        (partition(None), 10, 0, False),
        (partition(None, first=3), 7, 0, False),
        (partition(1, first=3), 7, 2, False),
        (partition(11), 0, 0, True),
        (partition(0, end=0), 0, 0, False),
    ],
)
def test_one_partition(one: PartitionLag, lag: int, lost: int, remade: bool) -> None:
    assert (one.lag, one.lost, one.remade) == (lag, lost, remade)


@given(st.none() | st.integers(0, 20), st.integers(0, 10), st.integers(0, 10))
def test_what_is_behind_and_what_is_lost_add_up(committed: int | None, first: int, more: int) -> None:
    one = partition(committed, first=first, end=first + more)
    assert 0 <= one.lag <= more
    if committed is not None and committed <= one.end:
        assert one.lag + one.lost == one.end - committed


def test_the_oldest_of_all_counts() -> None:
    group = GroupLag("g", "Stable", [partition(4, oldest=9_000), partition(10), partition(4, oldest=7_000)])
    assert (group.lag, group.behind(10_000)) == (12, 3.0)
    assert group.behind(1_000) == 0  # a clock that is behind


@pytest.mark.parametrize(("instance", "shown"), [("w1", "w1@10.0.0.1"), ("", "m@10.0.0.1")])
def test_an_owner_is_shown_by_its_name(instance: str, shown: str) -> None:
    assert str(Owner("m", instance, "/10.0.0.1")) == shown
