"""What passes a reading at once: the next entry, while it is clear and nothing that happened since has a say."""

from collections.abc import Callable

import pytest

from gateway.bucket import Limits, Pace
from gateway.passing import Way
from gateway.reading import Outlet, Reading
from schemas.bus import GAP, Answer, LogOpening, Run
from tests.unit.gateway.wire import passes_on

LOG = "inbox/normal"
OPENING = LogOpening(LOG, 0, 0, 0)

Event = Callable[[Reading], object]


def opened(pace: Pace | None = None) -> Reading:
    reading = Reading(LOG, pace)
    reading.open(OPENING, Outlet(), 0.0)
    return reading


def entry(seq: int) -> Run:
    return Run(LOG, seq, seq, 1, b"{}")


NOWHERE = Way(lambda data: None, lambda: 0, -1)


def passes(reading: Reading, seq: int) -> bool:
    return passes_on(entry(seq), reading)


def test_entries_pass_in_order_and_each_once() -> None:
    reading = opened()
    reading.clear(NOWHERE)
    assert [passes(reading, seq) for seq in (2, 1, 1, 2, 4, 3)] == [False, True, False, True, False, True]
    assert (reading.expected, reading.head, reading.sent) == (4, 3, 3)


EVENTS: dict[str, Event] = {
    "opened again": lambda reading: reading.open(OPENING, Outlet(), 0.0),
    "an entry that did not pass": lambda reading: reading.take(entry(3), Outlet()),
    "an answer": lambda reading: reading.answer(Answer("s", LOG, 0, 0, []), Outlet()),
    "the client's own sync": lambda reading: reading.sync(0, 10),
    "doubt": lambda reading: reading.suspect(),
    "a pump": lambda reading: reading.pump(Outlet(), 0.0),
    "a halt": lambda reading: reading.halt(),
}


@pytest.mark.parametrize("name", EVENTS)
def test_whatever_else_happens_ends_it(name: str) -> None:
    reading = opened()
    reading.clear(NOWHERE)
    EVENTS[name](reading)
    assert not passes(reading, 1)


def asked(reading: Reading) -> None:
    reading.suspect()
    reading.pump(Outlet(), 0.0)
    reading._unsure = False


STATES: dict[str, Event] = {
    "an entry is held": lambda reading: reading.take(entry(3), Outlet()),
    "the log is known to go on": lambda reading: reading.take(Run(LOG, 1, 5, reason=GAP), Outlet()),
    "a page of the client's": lambda reading: reading.sync(0, 10),
    "doubt": lambda reading: reading.suspect(),
    "an ask": asked,
}


@pytest.mark.parametrize("name", STATES)
def test_it_is_not_clear_while_something_has_a_say(name: str) -> None:
    reading = opened()
    STATES[name](reading)
    reading.clear(NOWHERE)
    assert not passes(reading, 1)


def test_a_log_with_a_pace_is_never_clear() -> None:
    reading = opened(Pace(Limits(), 0.0))
    reading.clear(NOWHERE)
    assert not passes(reading, 1)


def test_a_reading_that_is_not_open_is_not_clear() -> None:
    reading = Reading(LOG)
    reading.clear(NOWHERE)
    assert not passes(reading, 0)
