"""Decides from a history alone whether the promises were kept: I1 to I4, each with counter-examples.

It knows nothing of workers, gateways or the store: only what producers were told and what devices saw. What it holds a
device to is in `docs/protocol.md`, seen from the client. Time and memory are linear in the history.

An operation that Kafka acknowledged is owed to each device of its user that reached the end of the run (has a `final`),
unless it is for another device, became a status or a dead letter, lies where the log had not begun for that device, or
the device was told that it would not get it, for a reason that holds. An operation of unknown end may appear or not,
and one that failed must not. Two devices never disagree about a log, and `seq` follows the offsets of a partition.
"""

from collections import defaultdict
from collections.abc import Iterable

from proof.history import (
    Ack,
    AnyEvent,
    AtEnd,
    Connected,
    DeadLetter,
    Entry,
    Failed,
    Fault,
    Gap,
    Produce,
    Produced,
    Reset,
    Skip,
    Status,
    TooLong,
    Unknown,
)  # fmt: skip
from proof.owed import Operations, Owed, Place
from proof.report import INVARIANTS, KEPT, Counts, Report, Violation
from proof.view import Found, View


def check(events: Iterable[AnyEvent]) -> Report:
    """Return the verdict about a history."""
    checker = Checker()
    for event in events:
        checker.feed(event)
    return checker.finish()


class Checker:
    """Takes events one by one, then gives the report."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._totals = dict.fromkeys(INVARIANTS, 0)
        self._violations: list[Violation] = []
        self._operations = Operations()
        self._views: dict[Place, dict[str, View]] = defaultdict(dict)  # by (epoch, user, log), then by device
        self._entries: dict[Place, dict[int, Entry]] = defaultdict(dict)  # the first of each seq
        self._seqs: dict[Place, dict[str, Entry]] = defaultdict(dict)  # the first of each id
        self._acked: dict[tuple[str, str], int] = defaultdict(int)  # by (user, log)
        self._limits: dict[tuple[str, str, str], int] = {}  # by (user, device, log), when the device first came
        self._known: set[tuple[str, str]] = set()
        self._epochs: dict[tuple[str, str], str] = {}  # by (user, device)
        self._finals: dict[str, list[AtEnd]] = defaultdict(list)  # by user

    def feed(self, event: AnyEvent) -> None:  # noqa: C901 - one case a kind of event
        """Take the next event."""
        counts = self._counts
        counts.events += 1
        match event:
            case Entry():
                counts.shown += event.shown
                counts.repeated += not event.shown
                self._entry(event)
            case Produce() | Produced() | Failed() | Unknown() | Status() | DeadLetter():
                self._operations.feed(event, counts)
            case Ack():
                log = (event.user, event.log)
                self._acked[log] = max(self._acked[log], event.seq)
            case Connected():
                self._connected(event)
            case Skip():
                counts.skips += 1
                self._found(self._view(event).skip(event))
            case Gap():
                counts.gaps += 1
                self._view(event).gap(event)
            case TooLong():
                counts.too_long += 1
                self._view(event).jump(event)
            case Reset():
                counts.resets += 1
                self._view(event).jump(event)
            case AtEnd():
                counts.devices += 1
                self._finals[event.user].append(event)
            case Fault():
                counts.faults += event.phase == "begin"

    def finish(self) -> Report:
        """Return the report; what is owed can only be said at the end."""
        owed = Owed(self._operations, self._views, self._entries, self._seqs)
        for user, finals in sorted(self._finals.items()):
            for final in finals:
                epoch = self._epochs.get((user, final.device), "")
                self._found(owed.by(final, epoch, lambda log, final=final: self._limit(final, log)))  # type: ignore[misc]  # a lambda with a default
        self._found(owed.by_nobody())
        self._found(owed.out_of_order())
        self._counts.checked = owed.checked
        return Report(self._counts, self._totals, self._violations)

    def _connected(self, event: Connected) -> None:
        device = (event.user, event.device)
        self._epochs[device] = event.epoch
        if device not in self._known:
            self._known.add(device)
            for log in event.heads:
                self._limits[*device, log] = self._acked[event.user, log]

    def _limit(self, final: AtEnd, log: str) -> int:
        return self._limits.get((final.user, final.device, log), 0)

    def _view(self, event: Entry | Skip | Gap | TooLong | Reset) -> View:
        epoch = self._epochs.get((event.user, event.device), "")
        views = self._views[epoch, event.user, event.log]
        if event.device not in views:
            views[event.device] = View(self._limits.get((event.user, event.device, event.log), 0))
        return views[event.device]

    def _entry(self, event: Entry) -> None:
        place = (self._epochs.get((event.user, event.device), ""), event.user, event.log)
        same_seq = self._entries[place].setdefault(event.seq, event)
        same_id = self._seqs[place].setdefault(event.id, event)
        if same_seq.id != event.id:
            self._add("I2", f"seq {event.seq} is {same_seq.id} and {event.id}", (same_seq, event))
        elif same_id.seq != event.seq and same_id.device != event.device:
            self._add("I2", f"{event.id} has seq {same_id.seq} and {event.seq}", (same_id, event))
        self._found(self._view(event).entry(event))

    def _found(self, found: Iterable[Found]) -> None:
        for invariant, what, events in found:
            self._add(invariant, what, events)

    def _add(self, invariant: str, what: str, events: tuple[AnyEvent, ...]) -> None:
        self._totals[invariant] += 1
        if self._totals[invariant] <= KEPT:
            self._violations.append(Violation(invariant, what, events))
