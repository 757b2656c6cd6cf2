from proof.history import AnyEvent, AtEnd, Connected, Disconnected, Entry, Fault, Produce, Produced
from proof.recovery import Recoveries


def produced(op: int, at: float) -> list[Produce | Produced]:
    return [
        Produce(at=at, op=op, user="u1", lane="normal", id=f"r{op}"),
        Produced(at=at, op=op, partition=0, offset=op),
    ]


def shown(op: int, at: float, device: str = "phone") -> Entry:
    return Entry(at=at, user="u1", device=device, log="inbox/normal", seq=op, id=f"r{op}")


def fault(begin: float, end: float, name: str = "kill") -> list[Fault]:
    return [Fault(at=begin, name=name), Fault(at=end, name=name, phase="end")]


def test_recovery_is_until_the_last_device_shows_what_was_acknowledged_before_the_end_of_the_fault() -> None:
    events: list[AnyEvent] = [
        *produced(1, 1.0),
        *fault(2.0, 3.0),
        *produced(2, 3.5),
        shown(1, 5.0),
        shown(1, 6.0, "web"),
        shown(2, 9.0),
    ]
    assert Recoveries.of(events).after == {3.0: 3.0}


def test_what_was_shown_before_the_fault_ended_needs_no_recovery() -> None:
    events: list[AnyEvent] = [*produced(1, 1.0), shown(1, 1.5), *fault(2.0, 3.0)]
    assert Recoveries.of(events).after == {3.0: 0.0}


def test_what_a_second_fault_held_up_counts_for_the_second() -> None:
    events: list[AnyEvent] = [*produced(1, 1.0), *fault(2.0, 2.1), *fault(4.0, 4.1, "again"), shown(1, 6.1)]
    assert Recoveries.of(events).after == {2.1: 0.0, 4.1: 2.0}


def test_late_devices_do_not_count() -> None:
    events: list[AnyEvent] = [
        *produced(1, 1.0),
        *fault(2.0, 3.0),
        shown(1, 9.0, "late"),
        AtEnd(at=9, user="u1", device="late", late=True),
    ]
    assert Recoveries.of(events).after == {3.0: 0.0}


def test_a_reconnect_is_from_the_loss_to_the_welcome() -> None:
    events: list[AnyEvent] = [
        Connected(at=1, user="u1", device="phone"),
        Disconnected(at=2, user="u1", device="phone"),
        Disconnected(at=3, user="u1", device="phone"),  # an attempt that failed
        Connected(at=5, user="u1", device="phone"),
    ]
    assert Recoveries.of(events).reconnects == [3]
