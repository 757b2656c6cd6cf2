"""The judge on histories whose verdict is known; it needs Go, which `make faults` and `make test` install."""

from pathlib import Path

import pytest

from proof import judge as judging
from proof.history import AnyEvent, Entry, Produce, Produced, write
from proof.judge import ILLEGAL, LINEARIZABLE, Operation, judge, judge_logs, operations
from tests.unit.proof.stories import Story, story

pytestmark = pytest.mark.skipif(not judging.available(), reason="Go is not installed (apt-get install golang-go)")


def verdict(told: Story, tmp_path: Path) -> str:
    return judge(write(tmp_path / "h.jsonl", told.events)).verdict


def right() -> Story:
    told = story("phone", "web")
    told.produce("a", "b", "c")
    told.show("phone", "a", "b", "c")
    told.show("web", "a", "b", "c")
    return told


def test_a_log_that_all_read_alike_is_linearizable(tmp_path: Path) -> None:
    assert verdict(right(), tmp_path) == LINEARIZABLE


def test_two_devices_that_read_different_ids_at_one_place_are_not(tmp_path: Path) -> None:
    told = right()
    told.leave_open("d")
    told.leave_open("e")
    told.entry("phone", 4, "d")
    told.entry("web", 4, "e")
    assert verdict(told, tmp_path) == ILLEGAL


def test_an_order_against_time_is_not(tmp_path: Path) -> None:
    told = story("phone")
    told.produce("a", "b")  # `a` was acknowledged before `b` was asked for
    told.show("phone", "b", "a")
    assert verdict(told, tmp_path) == ILLEGAL


def test_the_order_of_what_was_under_way_together_is_free(tmp_path: Path) -> None:
    told = story("phone")
    one, two = told.ask("a"), told.ask("b")
    told.take(one)
    told.take(two)
    told.show("phone", "b", "a")
    assert verdict(told, tmp_path) == LINEARIZABLE


def test_an_entry_that_was_read_before_anybody_asked_for_it_is_not(tmp_path: Path) -> None:
    told = story("phone")
    told.entry("phone", 1, "a")
    told.produce("a")
    assert verdict(told, tmp_path) == ILLEGAL


def test_an_entry_that_nobody_asked_for_is_not(tmp_path: Path) -> None:
    told = right()
    told.entry("phone", 4, "forged")
    assert verdict(told, tmp_path) == ILLEGAL


def test_one_id_at_two_places_is_not(tmp_path: Path) -> None:
    told = right()
    told.leave_open("c")
    told.entry("phone", 4, "c")
    assert verdict(told, tmp_path) == ILLEGAL


def test_an_acknowledged_append_in_front_of_a_log_without_room_for_it_is_not(tmp_path: Path) -> None:
    told = story("phone")
    told.produce("lost")
    told.produce("a")
    told.show("phone", "a")
    assert verdict(told, tmp_path) == ILLEGAL


def test_what_nobody_reads_may_lie_where_nobody_looked(tmp_path: Path) -> None:
    told = story("phone")
    told.produce("a")
    told.produce("b", device="web")
    told.produce("c")
    told.leave_open("d")
    told.entry("phone", 1, "a")
    told.entry("phone", 3, "c")
    assert verdict(told, tmp_path) == LINEARIZABLE


def test_a_dropped_record_may_keep_its_place(tmp_path: Path) -> None:
    told = story("phone")
    told.produce("a", "dropped", "c")
    told.entry("phone", 1, "a")
    told.skip("phone", 2, 2, "rate_limited")
    told.entry("phone", 3, "c")
    told.status("dropped", "dropped", "rate_limited")
    assert verdict(told, tmp_path) == LINEARIZABLE


def test_what_an_operator_sent_again_is_an_append(tmp_path: Path) -> None:
    told = right()
    told.entry("phone", 4, "replay:r1:b")
    told.entry("web", 4, "replay:r1:b")
    assert verdict(told, tmp_path) == LINEARIZABLE


def test_a_record_that_became_a_status_or_a_dead_letter_may_be_no_append(tmp_path: Path) -> None:
    told = story("phone")
    told.produce("late", expires=1)
    told.produce("b")
    refused = told.take(told.ask("b"))
    told.dead_letter(told.take(told.ask("d")))
    told.dead_letter(refused)
    told.produce("c")
    told.show("phone", "b", "c")
    told.status("late", "expired", "expired")
    assert verdict(told, tmp_path) == LINEARIZABLE


def test_hundreds_of_appends_of_unknown_end_are_judged_soon(tmp_path: Path) -> None:
    told = story("phone")
    for number in range(300):
        told.leave_open(f"x{number}")
    told.show("phone", *(f"x{number}" for number in reversed(range(150))))
    assert verdict(told, tmp_path) == LINEARIZABLE


def test_a_long_log_is_looked_at_up_to_a_bound() -> None:
    events: list[AnyEvent] = []
    for number in range(1, 6):
        at = float(number)
        events += [
            Produce(at=at, op=number, user="u1", lane="normal", id=f"x{number}"),
            Produced(at=at + 0.1, op=number, partition=0, offset=number),
            Entry(at=at + 0.2, user="u1", device="phone", log="inbox/normal", seq=number, id=f"x{number}"),
        ]
    (found,) = operations(events, bound=2).values()
    assert [(op.kind, op.id) for op in found] == [("append", "x1"), ("append", "x2"), ("read", "x1"), ("read", "x2")]


def test_a_long_log_with_places_that_nobody_read_is_linearizable() -> None:
    events: list[AnyEvent] = []
    for number in range(1, 6):
        at = float(number)
        events += [
            Produce(at=at, op=number, user="u1", lane="bulk", id=f"x{number}"),
            Produced(at=at + 0.1, op=number, partition=0, offset=number),
        ]
        if number != 2:  # its place in the log was skipped
            entry = Entry(at=at + 0.2, user="u1", device="phone", log="inbox/bulk", seq=number, id=f"x{number}")
            events.append(entry)
    assert judge_logs(operations(events, bound=3)).verdict == LINEARIZABLE


def test_logs_are_judged_apart_and_the_bad_one_is_named() -> None:
    good = [Operation("append", "a", 0, 1, 2), Operation("read", "a", 1, 3, 3)]
    bad = [Operation("append", "a", 0, 4, 5), Operation("read", "a", 1, 3, 3)]
    met = judge_logs({"u1/inbox/normal": good, "u2/inbox/normal": bad})
    assert met.verdict == ILLEGAL
    assert met.message.startswith("u2/inbox/normal")
