"""Histories that are wrong on purpose: each is found, by the right invariant and with the events that show it."""

from collections.abc import Callable

import pytest

from proof.checker import check
from proof.history import AnyEvent, AtEnd, Entry, Produce, Produced, Skip
from proof.report import KEPT, Report
from tests.unit.proof.stories import Story, story


def broken(report: Report) -> set[str]:
    return {name for name, count in report.totals.items() if count}


def only(report: Report) -> tuple[AnyEvent, ...]:
    """The counter-example of the only violation."""
    assert len(report.violations) == 1, report.text()
    return report.violations[0].events


# -- what is right ---------------------------------------------------------------------------------------------------


def right() -> Story:
    told = story("phone", "web")
    told.produce("a", "b", "c")
    told.show("phone", "a", "b", "c")
    told.show("web", "a", "b", "c")
    return told


def test_a_history_in_which_everything_arrived_is_right_and_counted() -> None:
    report = check(right().end("phone", "web"))
    assert not report.violated, report.text()
    assert (report.counts.operations, report.counts.acknowledged, report.counts.shown) == (3, 3, 6)
    assert (report.counts.checked, report.counts.devices) == (6, 2)


def repeats_on_the_wire() -> Story:
    told = right()
    told.entry("phone", 3, "c", shown=False)
    return told


def an_unknown_one_appears() -> Story:
    told = story("phone", "web")
    told.leave_open("a")
    told.produce("b")
    told.show("phone", "a", "b")
    told.show("web", "a", "b")
    return told


def an_unknown_one_does_not_appear() -> Story:
    told = right()
    told.leave_open("d")
    return told


def one_for_another_device() -> Story:
    told = story("phone", "web")
    told.produce("a")
    told.produce("b", device="web")
    told.produce("c")
    told.entry("phone", 1, "a")
    told.skip("phone", 2, 2)
    told.entry("phone", 3, "c")
    told.show("web", "a", "b", "c")
    return told


def expired_on_arrival() -> Story:
    told = right()
    told.produce("late", expires=1)
    told.status("late", "expired", "expired")
    return told


def expired_before_a_device_came() -> Story:
    told = story("phone", "web")
    told.produce("a", expires=5)
    told.skip("phone", 1, 1, "expired")
    told.skip("web", 1, 1, "expired")
    return told


def for_a_device_that_does_not_exist() -> Story:
    told = right()
    told.produce("lonely", device="tablet")
    told.status("lonely", "queued", "unknown_device")
    for device in ("phone", "web"):
        told.skip(device, 4, 4)
    return told


def poison() -> Story:
    told = right()
    op = told.ask("p", poison=True)
    told.dead_letter(told.take(op))
    return told


def the_same_id_twice() -> Story:
    told = right()
    told.produce("b")
    return told


def a_refused_one_with_the_same_id() -> Story:
    told = right()
    told.dead_letter(told.take(told.ask("b")), "conflict")
    return told


def a_late_device_begins_after_what_was_acknowledged() -> Story:
    told = right()
    told.ack("web", 2)
    told.connect("tablet", head=3)
    told.entry("tablet", 3, "c")
    told.end("tablet")
    return told


def a_late_device_that_gets_nothing_more() -> Story:
    told = right()
    told.ack("web", 3)
    told.connect("tablet", head=3)
    told.end("tablet")
    return told


def too_much_backlog() -> Story:
    told = right()
    told.connect("tablet", head=3)
    told.too_long("tablet", 2)
    told.entry("tablet", 3, "c")
    told.end("tablet")
    return told


def a_gap_that_is_read_later() -> Story:
    told = story("phone", "web")
    told.produce("a", "b", "c")
    told.show("web", "a", "b", "c")
    told.entry("phone", 1, "a")
    told.gap("phone", 2, 3)
    told.show("phone", "b", "c", first=2)
    return told


def a_new_store() -> Story:
    told = story("phone", "web")
    told.produce("a")
    told.show("phone", "a")
    told.show("web", "a")
    for device in ("phone", "web"):
        told.connect(device, epoch="f")
        told.reset(device, 0)
    told.produce("b")
    told.show("phone", "b")
    told.show("web", "b")
    told.events = [event for event in told.events if not (isinstance(event, Produce | Produced) and event.op == 1)]
    told.events.insert(2, Produce(at=0, op=99, user="u1", lane="normal", id="a"))
    return told


def a_merged_one() -> Story:
    told = story("phone", "web")
    told.produce("a", collapse="k")
    told.produce("b", collapse="k")
    told.show("web", "a", "b")
    told.skip("phone", 1, 1, "merged")
    told.entry("phone", 2, "b")
    return told


def over_the_limit() -> Story:
    told = right()
    told.produce("d")
    for device in ("phone", "web"):
        told.skip(device, 4, 4, "rate_limited")
    told.status("d", "dropped", "rate_limited")
    return told


def sent_again_by_an_operator() -> Story:
    told = right()
    for device in ("phone", "web"):
        told.entry(device, 4, "replay:r1:b")
    return told


def a_dead_letter_that_was_sent_back() -> Story:
    told = story("phone", "web")
    dead = told.take(told.ask("a"))
    told.produce("b")
    told.show("phone", "b", "a")
    told.show("web", "b", "a")
    told.dead_letter(dead, "rule_failed")
    return told


RIGHT = [
    repeats_on_the_wire, an_unknown_one_appears, an_unknown_one_does_not_appear, one_for_another_device,
    expired_on_arrival, expired_before_a_device_came, for_a_device_that_does_not_exist, poison, the_same_id_twice,
    a_refused_one_with_the_same_id, a_late_device_begins_after_what_was_acknowledged,
    a_late_device_that_gets_nothing_more, too_much_backlog, a_gap_that_is_read_later, a_new_store, a_merged_one,
    over_the_limit, sent_again_by_an_operator, a_dead_letter_that_was_sent_back,
]  # fmt: skip


@pytest.mark.parametrize("tell", RIGHT, ids=lambda tell: tell.__name__)
def test_what_the_protocol_allows_is_right(tell: Callable[[], Story]) -> None:
    report = check(tell().end("phone", "web"))
    assert not report.violated, report.text()


# -- what is wrong ---------------------------------------------------------------------------------------------------


def test_one_that_no_device_shows_is_lost() -> None:
    told = right()
    told.produce("d")
    report = check(told.end("phone"))
    assert broken(report) == {"I1"}
    asked, taken, final = only(report)
    assert isinstance(asked, Produce)
    assert asked.id == "d"
    assert isinstance(taken, Produced)
    assert isinstance(final, AtEnd)


def test_one_that_one_of_two_devices_shows_is_lost_to_the_other() -> None:
    told = right()
    told.produce("d")
    told.entry("web", 4, "d")
    report = check(told.end("phone", "web"))
    assert broken(report) == {"I1"}
    events = only(report)
    assert [event.device for event in events if isinstance(event, Entry)] == ["web", "phone"]  # there, and around here
    assert isinstance(events[-1], AtEnd)
    assert events[-1].device == "phone"


def test_a_device_that_saw_nothing_at_all_has_lost_everything() -> None:
    assert check(story("phone").end("phone")).violated == 0
    told = story("phone", "web")
    told.produce("a")
    told.show("web", "a")
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_a_known_device_that_missed_what_others_acknowledged_has_lost_it() -> None:
    told = story("phone", "web")
    told.produce("a", "b")
    told.show("web", "a", "b")
    told.ack("web", 1)
    told.entry("phone", 2, "b")
    assert broken(check(told.end("phone", "web"))) == {"I1", "I4"}


def test_a_late_device_that_begins_after_what_nobody_acknowledged_has_a_hole() -> None:
    told = right()
    told.ack("web", 1)
    told.connect("tablet", head=3)
    told.entry("tablet", 3, "c")
    assert broken(check(told.end("phone", "web", "tablet"))) == {"I1", "I4"}


def test_two_that_changed_places_in_the_log_are_out_of_order() -> None:
    told = story("phone", "web")
    told.produce("a", "b")
    told.show("phone", "b", "a")
    told.show("web", "b", "a")
    report = check(told.end("phone", "web"))
    assert broken(report) == {"I2"}
    one, two, *shown = only(report)
    assert isinstance(one, Produced)
    assert isinstance(two, Produced)
    assert one.offset < two.offset
    assert [event.seq for event in shown if isinstance(event, Entry)] == [2, 1]


def test_partitions_have_no_order_between_them() -> None:
    told = story("phone")
    told.take(told.ask("a"), partition=1)
    told.take(told.ask("b"), partition=2)
    told.show("phone", "b", "a")
    assert not check(told.end("phone")).violated


def test_two_that_changed_places_on_one_device_are_out_of_order_there() -> None:
    told = right()
    told.events = told.events[:-1]  # `c` on web
    told.produce("d")
    told.show("phone", "d", first=4)
    told.entry("web", 4, "d")
    told.entry("web", 3, "c")
    report = check(told.end("phone", "web"))
    assert broken(report) == {"I2", "I4"}


def test_one_seq_with_two_ids_is_two_logs() -> None:
    told = story("phone", "web")
    told.produce("a", "b")
    told.show("phone", "a")
    told.show("web", "b")
    report = check(told.end())
    assert broken(report) == {"I2"}
    assert [event.id for event in only(report) if isinstance(event, Entry)] == ["a", "b"]


def test_a_repeat_on_the_wire_with_another_id_is_two_logs() -> None:
    told = right()
    told.entry("phone", 2, "c", shown=False)
    assert "I2" in broken(check(told.end("phone", "web")))


def test_one_id_with_two_seqs_on_two_devices_is_two_logs() -> None:
    told = story("phone", "web")
    told.produce("a", "b")
    told.show("phone", "a", "b")
    told.entry("web", 1, "b")
    assert "I2" in broken(check(told.end()))


def test_a_seq_that_is_shown_again_is_a_repeat() -> None:
    told = right()
    told.entry("phone", 3, "c")
    report = check(told.end("phone", "web"))
    assert broken(report) == {"I3"}
    assert [event.seq for event in only(report) if isinstance(event, Entry)] == [3, 3]


def test_an_id_that_is_shown_again_under_another_seq_is_a_repeat() -> None:
    told = right()
    told.entry("phone", 4, "b")
    told.entry("web", 4, "b")
    report = check(told.end("phone", "web"))
    assert "I3" in broken(report)
    assert report.found("I3") == 2


def test_a_hole_that_nobody_announced_is_found_with_what_lies_beside_it() -> None:
    told = story("phone")
    told.produce("a")
    told.leave_open("b")
    told.produce("c")
    told.entry("phone", 1, "a")
    told.entry("phone", 3, "c")
    report = check(told.end("phone"))
    assert broken(report) == {"I4"}
    assert [event.seq for event in only(report) if isinstance(event, Entry)] == [1, 3]


def test_a_log_that_begins_late_for_no_reason_has_a_hole() -> None:
    told = story("phone")
    told.leave_open("a")
    told.produce("b")
    told.entry("phone", 2, "b")
    assert broken(check(told.end("phone"))) == {"I4"}


def test_a_skip_that_leaves_a_hole_before_it_has_not_announced_it() -> None:
    told = story("phone")
    told.produce("a", "b", "c", device="web")
    told.skip("phone", 3, 3)
    assert broken(check(told.end("phone"))) == {"I4"}


def test_a_gap_that_is_announced_and_never_filled_is_a_loss() -> None:
    told = right()
    told.produce("d")
    told.gap("phone", 4, 4)
    told.show("web", "d", first=4)
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_a_skip_of_what_was_for_all_devices_is_a_loss() -> None:
    told = right()
    told.produce("d")
    told.entry("web", 4, "d")
    told.skip("phone", 4, 4)
    report = check(told.end("phone", "web"))
    assert broken(report) == {"I1"}
    assert any(isinstance(event, Skip) for event in only(report))


def test_a_skip_for_an_expiry_that_the_record_did_not_have_is_a_loss() -> None:
    told = right()
    told.produce("d")
    told.entry("web", 4, "d")
    told.skip("phone", 4, 4, "expired")
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_more_skips_than_there_are_records_for_other_devices_are_a_loss() -> None:
    told = story("phone")
    told.produce("a", device="web")
    told.produce("b")
    told.skip("phone", 1, 2)
    assert broken(check(told.end("phone"))) == {"I1"}


def test_a_skip_over_a_limit_without_a_status_is_a_loss() -> None:
    told = right()
    told.produce("d")
    told.skip("phone", 4, 4, "rate_limited")
    told.skip("web", 4, 4, "rate_limited")
    report = check(told.end("phone", "web"))
    assert broken(report) == {"I1"}


def test_a_replay_that_is_shown_twice_is_a_repeat() -> None:
    told = right()
    told.entry("phone", 4, "replay:r1:b")
    told.entry("phone", 5, "replay:r1:b")
    assert "I3" in broken(check(told.end("phone", "web")))


def test_a_replay_of_what_was_never_there_must_not_appear() -> None:
    told = right()
    told.entry("phone", 4, "replay:r1:forged")
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_a_status_excuses_only_what_it_fits() -> None:
    told = right()
    told.produce("d")
    told.status("d", "expired", "expired")
    assert broken(check(told.end("phone"))) == {"I1"}


def test_unknown_device_is_no_excuse_for_a_device_that_is_there() -> None:
    told = right()
    told.produce("d", device="phone")
    told.status("d", "queued", "unknown_device")
    told.skip("web", 4, 4)
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_a_dead_letter_excuses_only_its_own_record() -> None:
    told = right()
    told.produce("d")
    told.dead_letter(99)
    assert broken(check(told.end("phone"))) == {"I1"}


def test_poison_that_became_no_dead_letter_is_lost() -> None:
    told = right()
    told.take(told.ask("p", poison=True))
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_what_nobody_produced_must_not_appear() -> None:
    told = right()
    told.entry("phone", 4, "forged")
    told.entry("web", 4, "forged")
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_what_kafka_refused_must_not_appear() -> None:
    told = right()
    told.fail("d")
    told.entry("phone", 4, "d")
    told.entry("web", 4, "d")
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_a_device_that_does_not_show_what_is_new_to_it_is_wrong() -> None:
    told = right()
    told.produce("d")
    told.entry("phone", 4, "d", shown=False)
    told.entry("web", 4, "d")
    assert broken(check(told.end("phone", "web"))) == {"I1"}


def test_an_acknowledgement_is_not_undone_by_an_unknown_end_of_another_attempt() -> None:
    told = right()
    told.produce("d")
    told.leave_open("d")
    assert broken(check(told.end("phone"))) == {"I1"}


def test_a_device_without_an_end_is_not_asked() -> None:
    told = right()
    told.produce("d")
    assert not check(told.end()).violated


def test_another_users_entry_does_not_count() -> None:
    told = right()
    told.produce("d")
    told.events.append(Entry(at=1, user="u2", device="phone", log="inbox/normal", seq=1, id="d"))
    assert broken(check(told.end("phone"))) == {"I1"}


def test_many_violations_are_counted_and_few_are_kept() -> None:
    told = story("phone")
    told.produce(*(f"x{number}" for number in range(50)))
    report = check(told.end("phone"))
    assert report.found("I1") == 50
    assert len(report.violations) == KEPT
    assert "I1 BROKEN 50 times" in report.text()
