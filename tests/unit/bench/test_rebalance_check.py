"""The rebalance check finds what is wrong in runs that are wrong on purpose, and nothing in a good one."""

from typing import Any

import msgspec
import pytest

from bench.pauses import BETWEEN, pauses
from bench.rebalance_check import Verdict, fold, judge
from bench.rebalance_worker import Event, Last, Out, applied

USER = "u1"


def value(seq: int, *, count: int | None = None, epoch: int = 1) -> bytes:
    return msgspec.json.encode(Last(seq, seq if count is None else count, epoch))


def out(seq: int, *, before: int | None = None) -> Out:
    known = seq - 1 if before is None else before
    return Out(seq, USER, seq, Last(known, known, 1))


CHANGES = [(offset, USER.encode(), value(offset + 1)) for offset in range(3)]
FILES = {USER.encode(): value(3)}


def verdict(**changes: Any) -> Verdict:
    good: dict[str, Any] = {
        "sent": {USER: 3}, "total": 3, "outs": [out(1), out(2), out(3)], "stalled": 0,
        "changelog": {0: CHANGES}, "files": [(0, 2, FILES)],
    }  # fmt: skip
    return judge(**{**good, **changes})


def test_a_good_run_has_nothing_wrong() -> None:
    assert not verdict().bad
    assert verdict(outs=[out(1), out(2), out(2), out(3)]).repeats == 1
    assert not verdict(outs=[out(1), out(2), out(2), out(3)]).bad


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"outs": [out(1), out(3)]}, "lost"),
        ({"stalled": 1}, "stalled"),
        ({"outs": [out(1), out(2), out(3, before=1)]}, "stale"),
        ({"changelog": {0: CHANGES[:2]}, "files": []}, "wrong"),
        ({"changelog": {0: [*CHANGES[:2], (2, USER.encode(), value(3, count=2))]}, "files": []}, "wrong"),
        ({"changelog": {0: []}, "files": []}, "wrong"),
        ({"files": [(0, 2, {})]}, "wrong_files"),
        ({"files": [(0, 2, {USER.encode(): value(2)})]}, "wrong_files"),
        ({"files": [(0, 9, {USER.encode(): value(9)})]}, "wrong_files"),
    ],
)
def test_what_is_wrong_is_found(changes: dict[str, Any], what: str) -> None:
    found = verdict(**changes)
    assert found.bad
    assert getattr(found, what) > 0


def test_files_that_are_behind_are_right_once_the_rest_was_read() -> None:
    assert not verdict(files=[(0, 1, {USER.encode(): value(2)}), (0, -1, {})]).bad


def test_what_a_former_owner_wrote_late_is_told_apart() -> None:
    late = [*CHANGES, (3, USER.encode(), value(2, epoch=0))]
    found = verdict(changelog={0: late}, files=[])
    assert (found.late, found.wrong) == (1, 0)


def test_a_repeat_is_counted_once() -> None:
    last = applied(Last(), Event(0, USER, 1), epoch=1)
    assert applied(last, Event(0, USER, 1), epoch=2) == Last(1, 1, 2)


def test_a_fold_goes_on_after_an_offset_and_knows_deletions() -> None:
    assert fold([(0, b"a", b"1"), (1, b"b", b"1"), (2, b"a", None)]) == {b"b": b"1"}
    assert fold([(0, b"a", b"1"), (1, b"b", b"1")], 0, {b"c": b"1"}) == {b"b": b"1", b"c": b"1"}


def test_the_pause_of_a_step_is_the_longest_silence_that_began_until_the_next() -> None:
    arrivals = {0: [0.0, 1.0, 4.0, 5.0, 7.5], 1: [0.0, 2.5, BETWEEN + 3, BETWEEN + 99]}
    (found,) = pauses([("join", 2.0)], arrivals)
    assert found.longest == [2.5, BETWEEN + 0.5]
