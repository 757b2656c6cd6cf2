"""Which partitions stand still, and that each is said once."""

from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.stalls import STALLED, Stalls, told


def message(offset: int, partition: int = 0) -> Any:
    return SimpleNamespace(tp=TP("t", partition), offset=offset)


def test_the_oldest_record_of_each_partition_counts() -> None:
    stalls = Stalls()
    stalls.begin(1, [message(5), message(6), message(3, 1)])
    stalls.failed(1, "away")
    assert stalls.look(STALLED - 1) == []
    assert [str(stall) for stall in stalls.look(1)] == ["t:0@5 (away)", "t:1@3 (away)"]
    assert stalls.look(STALLED) == []
    assert told(stalls.standing()) == "stands still: t:0@5 (away), t:1@3 (away)"
    assert [stall.place() for stall in stalls.end(1)] == ["t:0@5", "t:1@3"]
    assert told(stalls.standing()) is None


def test_what_hangs_without_an_error_stands_still_as_well() -> None:
    stalls = Stalls()
    stalls.begin(1, [message(5)])
    (stall,) = stalls.look(STALLED)
    assert str(stall) == "t:0@5 (no answer yet)"


def test_halves_of_a_batch_keep_the_time_of_what_they_begin_with() -> None:
    stalls = Stalls()
    stalls.begin(1, [message(n) for n in range(5, 9)])
    stalls.look(STALLED - 1)
    assert stalls.begin(1, [message(5), message(6)]) == []
    assert len(stalls.look(1)) == 1
    assert [stall.place() for stall in stalls.begin(1, [message(7), message(8)])] == ["t:0@5"], "that one went on"
    assert stalls.look(STALLED - 1) == []


def test_works_beside_each_other_show_the_oldest() -> None:
    stalls = Stalls()
    stalls.begin(1, [message(9)])
    stalls.begin(2, [message(5)])
    stalls.look(STALLED)
    assert [stall.offset for stall in stalls.standing()] == [5]
    stalls.end(2)
    assert [stall.offset for stall in stalls.standing()] == [9]


def test_an_error_is_cut() -> None:
    stalls = Stalls()
    stalls.begin(1, [message(9)])
    stalls.failed(1, "x" * 10_000)
    assert len(stalls.look(STALLED)[0].error) == 200


@given(st.lists(st.floats(0.1, 2.0), max_size=100))
def test_nothing_is_said_before_its_time_and_nothing_twice(looks: list[float]) -> None:
    stalls, said, passed = Stalls(), 0, 0.0
    stalls.begin(1, [message(1)])
    for elapsed in looks:
        passed += elapsed
        said += len(stalls.look(elapsed))
        assert said == (passed >= STALLED)
