"""Contiguity and watermark, the two rules that keep records from being lost between Kafka and an agent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.progress import Admission, Progress


def started(offset: int = 0) -> Progress:
    progress = Progress()
    progress.start(offset, None)
    progress.begin_fetch()
    return progress


def test_nothing_is_delivered_before_the_start_is_known() -> None:
    assert Progress().admit(0) is Admission.OLD


def test_a_record_is_delivered_once() -> None:
    progress = started()
    assert progress.admit(0) is Admission.DELIVER
    assert progress.admit(0) is Admission.OLD


def test_a_fetch_that_begins_too_late_is_read_again() -> None:
    progress = started()
    assert progress.admit(3) is Admission.HOLE
    assert progress.wanted == 0


def test_a_hole_is_real_only_when_the_next_fetch_begins_with_the_very_same() -> None:
    progress = started()
    progress.admit(3)
    progress.begin_fetch()
    assert progress.admit(3) is Admission.DELIVER

    progress = started()
    progress.admit(3)
    progress.begin_fetch()
    assert progress.admit(4) is Admission.HOLE


def test_a_hole_inside_a_fetch_is_real() -> None:
    progress = started()
    assert [progress.admit(0), progress.admit(5)] == [Admission.DELIVER, Admission.DELIVER]


def test_a_hole_that_was_confirmed_once_is_not_confirmed_for_ever() -> None:
    progress = started()
    progress.admit(3)
    progress.begin_fetch()
    progress.begin_fetch()
    assert progress.admit(3) is Admission.HOLE


def test_what_is_committed_ends_before_the_first_record_without_an_ack() -> None:
    progress = started()
    for offset in range(4):
        progress.admit(offset)
    for offset in (0, 1, 3):
        progress.ack([offset])
    assert progress.committable() == 2
    progress.ack([2])
    assert progress.committable() == 4


def test_what_the_broker_has_is_not_committed_again() -> None:
    progress = started()
    progress.admit(0)
    progress.ack([0])
    progress.committed = 1
    assert progress.committable() is None


def test_an_ack_from_before_the_delivery_does_not_count() -> None:
    progress = started()
    progress.ack([0])
    progress.admit(0)
    assert progress.committable() is None


def test_a_delivery_that_was_cut_short_is_wanted_again() -> None:
    progress = started()
    progress.admit(0)
    progress.undo(0)
    assert progress.wanted == 0
    assert progress.in_flight == 0


def test_a_whole_fetch_is_delivered_at_once_if_it_is_what_is_wanted() -> None:
    progress = started()
    progress.begin_fetch()
    assert progress.admit_all(0, 2, 3)
    assert (progress.wanted, progress.in_flight) == (3, 3)
    progress.ack([0, 1, 2])
    assert progress.committable() == 3


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        pytest.param(1, 3, 3, id="it begins too late"),
        pytest.param(0, 3, 3, id="a hole"),
        pytest.param(-1, 1, 3, id="it begins too early"),
    ],
)
def test_any_other_fetch_is_looked_at_record_by_record(first: int, last: int, count: int) -> None:
    progress = started()
    progress.begin_fetch()
    assert not progress.admit_all(first, last, count)
    assert (progress.wanted, progress.in_flight) == (0, 0)


def test_an_ack_from_before_a_whole_fetch_does_not_count() -> None:
    progress = started()
    progress.ack([0])
    progress.begin_fetch()
    assert progress.admit_all(0, 0, 1)
    assert progress.committable() is None


@given(st.data())
def test_nothing_is_committed_that_was_not_delivered_and_acked(data: st.DataObject) -> None:
    """Fetches may begin anywhere, lose their beginning, be cut short; acks come in any order."""
    end = data.draw(st.integers(1, 30))
    progress = started()
    delivered: list[int] = []
    acked: set[int] = set()
    for _ in range(data.draw(st.integers(1, 40))):
        progress.begin_fetch()
        wanted = progress.wanted or 0
        lost = data.draw(st.integers(0, 3))
        fetched = range(min(end, wanted + lost), data.draw(st.integers(wanted, end)))
        if fetched and data.draw(st.booleans()) and progress.admit_all(fetched[0], fetched[-1], len(fetched)):
            delivered += fetched
            fetched = range(0)
        for offset in fetched:
            if progress.admit(offset) is not Admission.DELIVER:
                break
            delivered.append(offset)
        for offset in data.draw(st.lists(st.sampled_from(delivered), max_size=5)) if delivered else []:
            progress.ack([offset])
            acked.add(offset)
        commit = progress.committable()
        if commit is not None:
            assert {offset for offset in delivered if offset < commit} <= acked
            assert commit - 1 in acked
            progress.committed = commit
    assert delivered == sorted(set(delivered))


def test_all_that_was_delivered_up_to_an_ack_through_is_committed() -> None:
    progress = started()
    assert progress.admit_all(0, 99_999, 100_000)
    progress.ack_through(49_999)
    assert (progress.committable(), progress.in_flight) == (50_000, 50_000)
    assert len(progress._delivered) == 1, "many records cost as little as few"
    progress.ack([50_000])
    assert progress.committable() == 50_001
    progress.ack_through(200_000)
    assert (progress.committable(), progress.in_flight) == (100_000, 0)


def test_an_ack_through_goes_over_holes_that_are_real() -> None:
    progress = started()
    for offset in (0, 1, 5, 9):
        progress.admit(offset)
    progress.ack_through(5)
    assert progress.committable() == 6
    progress.ack([9])
    assert (progress.committable(), progress.in_flight) == (10, 0)
