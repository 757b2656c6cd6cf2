"""Any history of a system that keeps its promises passes, and any single thing that goes wrong in it is found."""

import random
from collections.abc import Callable

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proof.checker import check
from proof.history import AnyEvent, AtEnd, Entry, Failed, Produce, Produced, Skip, Unknown
from tests.unit.proof.stories import Story, story

DEVICES = ("phone", "web")


class Kept:
    """Tells a history of a log whose writer and devices make no mistake; `dice` chooses what happens."""

    def __init__(self, dice: random.Random, records: int) -> None:
        self._dice = dice
        self._told: Story = story(*DEVICES)
        self._log: list[tuple[str, str]] = []  # (id, for which device)
        self._cursors = dict.fromkeys(DEVICES, 0)
        for number in range(records):
            self._produce(f"r{number}")
            while dice.random() < 0.6:
                self._hand_on(dice.choice(DEVICES))
        while any(cursor < len(self._log) for cursor in self._cursors.values()):
            self._hand_on(dice.choice(DEVICES))

    def events(self) -> list[AnyEvent]:
        return self._told.end(*DEVICES)

    def _produce(self, id_: str) -> None:
        told, dice = self._told, self._dice
        device = dice.choice(["", "", "", "web"])
        end = dice.choice(["ok"] * 6 + ["failed", "appears", "does not appear"])
        if end == "failed":
            told.fail(id_)
        elif end == "ok":
            told.produce(id_, device=device)
            self._log.append((id_, device))
        else:
            told.leave_open(id_)
            if end == "appears":
                self._log.append((id_, ""))

    def _hand_on(self, name: str) -> None:
        cursor = self._cursors[name]
        if cursor and self._dice.random() < 0.1:
            self._again(name, self._dice.randrange(cursor))
        if cursor == len(self._log):
            return
        id_, device = self._log[cursor]
        self._cursors[name] = cursor + 1
        if device in ("", name):
            self._told.entry(name, cursor + 1, id_)
        else:
            self._told.skip(name, cursor + 1, cursor + 1)

    def _again(self, name: str, position: int) -> None:
        id_, device = self._log[position]
        if device in ("", name):
            self._told.entry(name, position + 1, id_, shown=False)


Mutation = Callable[[list[AnyEvent], random.Random], list[AnyEvent] | None]


def _choose(events: list[AnyEvent], dice: random.Random, fits: Callable[[AnyEvent], bool]) -> int | None:
    places = [place for place, event in enumerate(events) if fits(event)]
    return dice.choice(places) if places else None


def _acknowledged(events: list[AnyEvent]) -> set[str]:
    ok = {event.op for event in events if isinstance(event, Produced)}
    return {event.id for event in events if isinstance(event, Produce) and event.op in ok}


def an_entry_is_lost(events: list[AnyEvent], dice: random.Random) -> list[AnyEvent] | None:
    owed = _acknowledged(events)
    place = _choose(events, dice, lambda event: isinstance(event, Entry) and event.shown and event.id in owed)
    if place is None:
        return None
    lost = events[place]
    assert isinstance(lost, Entry)
    return [
        event
        for event in events
        if not (isinstance(event, Entry) and (event.device, event.seq) == (lost.device, lost.seq))
    ]


def an_entry_is_shown_twice(events: list[AnyEvent], dice: random.Random) -> list[AnyEvent] | None:
    place = _choose(events, dice, lambda event: isinstance(event, Entry) and event.shown)
    return None if place is None else [*events[: place + 1], events[place], *events[place + 1 :]]


def a_hole_is_not_announced(events: list[AnyEvent], dice: random.Random) -> list[AnyEvent] | None:
    place = _choose(events, dice, lambda event: isinstance(event, Skip))
    if place is None:
        return None
    skip = events[place]
    assert isinstance(skip, Skip)
    after = [e for e in events[place:] if isinstance(e, Entry) and e.device == skip.device and e.seq > skip.last]
    return [*events[:place], *events[place + 1 :]] if after else None


def two_entries_change_places_on_one_device(events: list[AnyEvent], dice: random.Random) -> list[AnyEvent] | None:
    first = _choose(events, dice, lambda event: isinstance(event, Entry) and event.shown and event.device == "phone")
    later = [p for p, e in enumerate(events) if isinstance(e, Entry) and e.shown and e.device == "phone" and p != first]
    if first is None or not later:
        return None
    second = dice.choice(later)
    one, two = events[first], events[second]
    assert isinstance(one, Entry)
    assert isinstance(two, Entry)
    changed = list(events)
    changed[first] = msgspec.structs.replace(one, id=two.id)
    changed[second] = msgspec.structs.replace(two, id=one.id)
    return changed


def two_entries_change_places_in_the_log(events: list[AnyEvent], dice: random.Random) -> list[AnyEvent] | None:
    owed = sorted(_acknowledged(events) & {event.id for event in events if isinstance(event, Entry)})
    common = [
        id_
        for id_ in owed
        if not any(isinstance(event, Produce) and event.id == id_ and event.device for event in events)
    ]
    if len(common) < 2:
        return None
    one, two = dice.sample(common, 2)
    other = {one: two, two: one}
    return [
        msgspec.structs.replace(event, id=other.get(event.id, event.id)) if isinstance(event, Entry) else event
        for event in events
    ]


def an_entry_is_forged(events: list[AnyEvent], dice: random.Random) -> list[AnyEvent] | None:
    place = _choose(events, dice, lambda event: isinstance(event, Entry))
    if place is None:
        return None
    entry = events[place]
    assert isinstance(entry, Entry)
    return [*events[:place], msgspec.structs.replace(entry, id="forged"), *events[place + 1 :]]


def what_did_not_appear_was_acknowledged(events: list[AnyEvent], dice: random.Random) -> list[AnyEvent] | None:
    seen = {event.id for event in events if isinstance(event, Entry)}
    missing = {event.op for event in events if isinstance(event, Produce) and event.id not in seen}
    place = _choose(events, dice, lambda event: isinstance(event, Unknown | Failed) and event.op in missing)
    if place is None:
        return None
    answer = events[place]
    assert isinstance(answer, Unknown | Failed)
    return [*events[:place], Produced(at=answer.at, op=answer.op, partition=0, offset=10_000), *events[place + 1 :]]


def what_appeared_was_refused(events: list[AnyEvent], dice: random.Random) -> list[AnyEvent] | None:
    seen = {event.id for event in events if isinstance(event, Entry)}
    shown = {event.op for event in events if isinstance(event, Produce) and event.id in seen}
    place = _choose(events, dice, lambda event: isinstance(event, Produced | Unknown) and event.op in shown)
    if place is None:
        return None
    answer = events[place]
    assert isinstance(answer, Produced | Unknown)
    return [*events[:place], Failed(at=answer.at, op=answer.op), *events[place + 1 :]]


FOUND_BY: dict[Mutation, set[str]] = {
    an_entry_is_lost: {"I1"},
    an_entry_is_shown_twice: {"I3"},
    a_hole_is_not_announced: {"I4"},
    two_entries_change_places_on_one_device: {"I2"},
    two_entries_change_places_in_the_log: {"I2"},
    an_entry_is_forged: {"I1", "I2"},
    what_did_not_appear_was_acknowledged: {"I1"},
    what_appeared_was_refused: {"I1"},
}

seeds = st.integers(0, 2**32)


@settings(max_examples=200, deadline=None)
@given(seeds, st.integers(0, 40))
def test_a_history_that_keeps_the_promises_passes(seed: int, records: int) -> None:
    report = check(Kept(random.Random(seed), records).events())
    assert not report.violated, report.text()


@settings(max_examples=400, deadline=None)
@given(seeds, st.integers(1, 40), st.sampled_from(list(FOUND_BY)))
def test_one_thing_that_goes_wrong_is_found(seed: int, records: int, mutation: Mutation) -> None:
    dice = random.Random(seed)
    wrong = mutation(Kept(dice, records).events(), dice)
    assume(wrong is not None)
    assert wrong is not None
    report = check(wrong)
    assert any(report.found(name) for name in FOUND_BY[mutation]), report.text()
    assert all(violation.events for violation in report.violations)


def test_the_random_histories_have_in_them_what_they_are_about() -> None:
    events = [event for seed in range(20) for event in Kept(random.Random(seed), 40).events()]
    kinds = {type(event) for event in events}
    assert {Produce, Produced, Failed, Unknown, Entry, Skip, AtEnd} <= kinds
    assert any(isinstance(event, Entry) and not event.shown for event in events)
