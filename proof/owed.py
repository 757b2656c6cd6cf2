"""What devices are owed: each acknowledged operation becomes an entry on each device, or there is a reason why not."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from proof.history import (
    AnyEvent,
    AtEnd,
    DeadLetter,
    Entry,
    Failed,
    Gap,
    Produce,
    Produced,
    Skip,
    Status,
    Unknown,
)  # fmt: skip
from proof.report import Counts
from proof.view import Found, Told, View
from schemas.logs import INBOX_LOGS

Place = tuple[str, str, str]  # epoch, user, log
Key = tuple[str, str]  # user, log

# Reason of a `skip`: whether it holds for a record, a device and the reasons of the record's statuses.
_CAUSES: Mapping[str, Callable[[Produce, str, set[str]], bool]] = {
    "other_device": lambda produce, device, _: produce.device not in ("", device),
    "expired": lambda produce, _, __: produce.expires > 0,
    "merged": lambda produce, _, __: produce.collapse != "",
    "rate_limited": lambda _, __, statuses: "rate_limited" in statuses,
}
_REPLAY: Final = "replay:"  # what `tocsin replay` sends again has the id replay:{run}:{id of the entry}


class Operations:
    """What producers asked for and what became of it on Kafka's side."""

    def __init__(self) -> None:
        self.asked: dict[int, Produce] = {}
        self.ok: dict[int, Produced] = {}
        self.failed: dict[int, Failed] = {}
        self.by_id: dict[tuple[str, str, str], list[Produce]] = defaultdict(list)  # by (user, log, id)
        self.by_log: dict[Key, list[Produce]] = defaultdict(list)
        self.statuses: dict[tuple[str, str], list[Status]] = defaultdict(list)  # by (user, id)
        self._letters: set[tuple[str, int, int]] = set()
        self._letter_ids: set[tuple[str, str]] = set()

    def feed(self, event: Produce | Produced | Failed | Unknown | Status | DeadLetter, counts: Counts) -> None:
        """Take an event."""
        match event:
            case Produce():
                counts.operations += 1
                log = f"inbox/{event.lane}"
                self.asked[event.op] = event
                self.by_id[event.user, log, event.id].append(event)
                self.by_log[event.user, log].append(event)
            case Produced():
                counts.acknowledged += 1
                self.ok[event.op] = event
            case Failed():
                counts.failed += 1
                self.failed[event.op] = event
            case Unknown():
                counts.unknown += 1
            case Status():
                counts.statuses += 1
                self.statuses[event.user, event.id].append(event)
            case DeadLetter():
                counts.dead_letters += 1
                self._letters.add((event.topic, event.partition, event.offset))
                self._letter_ids.add((event.user, event.id))

    def is_dead(self, produce: Produce) -> bool:
        """Return whether the record became a dead letter."""
        ok = self.ok[produce.op]
        place = (f"notifications.{produce.lane}", ok.partition, ok.offset)
        return place in self._letters or (produce.user, produce.id) in self._letter_ids

    def has_cause(self, reason: str, produce: Produce, device: str) -> bool:
        """Return whether a `skip` of this record for this device is right."""
        statuses = {status.reason for status in self.statuses.get((produce.user, produce.id), ())}
        return _CAUSES[reason](produce, device, statuses)

    def asked_as(self, user: str, log: str, id_: str) -> list[Produce]:
        """Return the operations that may have made an entry; that of a replayed one made the first."""
        if id_.startswith(_REPLAY) and (user, log, id_) not in self.by_id:
            id_ = id_.split(":", 2)[-1]
        return self.by_id.get((user, log, id_), [])

    def has_status(self, produce: Produce, present: bool) -> bool:
        """Return whether a status says why there is no entry; `present`: its device was there at the end."""
        return any(_explains(status, produce, present) for status in self.statuses.get((produce.user, produce.id), ()))


def _explains(status: Status, produce: Produce, present: bool) -> bool:
    if status.reason == "expired":
        return produce.expires > 0
    if status.reason == "unknown_device":
        return produce.device != "" and not present
    return status.state not in ("", "queued", "delivered", "read")


class Owed:
    """Compares what Kafka acknowledged with what devices showed."""

    def __init__(
        self,
        operations: Operations,
        views: Mapping[Place, Mapping[str, View]],
        entries: Mapping[Place, Mapping[int, Entry]],
        seqs: Mapping[Place, Mapping[str, Entry]],
    ) -> None:
        self.checked = 0
        self._operations = operations
        self._views = views
        self._entries = entries
        self._seqs = seqs

    def by(self, final: AtEnd, epoch: str, limit: Callable[[str], int]) -> Iterator[Found]:
        """Give what a device is owed and has not shown, and what it was told to skip without cause."""
        for log in self._logs(final.user):
            place = (epoch, final.user, log)
            view = self._views.get(place, {}).get(final.device) or View(limit(log))
            yield from self._lost(final, place, view)
            yield from self._skipped(final, place, view)

    def _logs(self, user: str) -> list[str]:
        return [log for log in INBOX_LOGS if (user, log) in self._operations.by_log]

    def _lost(self, final: AtEnd, place: Place, view: View) -> Iterator[Found]:
        nowhere: list[Produce] = []
        for produce in self._operations.by_log[place[1:]]:
            if not self._is_owed(produce, final):
                continue
            self.checked += 1
            if produce.id in view.ids:
                continue
            elsewhere = self._seqs.get(place, {}).get(produce.id)
            if elsewhere is None:
                nowhere.append(produce)
            elif not (view.missed(elsewhere.seq) or view.excuse(elsewhere.seq)):
                what = f"{produce.id} was acknowledged and {final.user}/{final.device} did not show it"
                yield "I1", what, (*self._story(produce), elsewhere, *view.around(elsewhere.seq), final)
        hidden = self._hidden(place, view)
        for produce in nowhere[hidden:]:  # as many as were announced may lie there; nobody can tell which
            what = f"{produce.id} was acknowledged and {final.user}/{final.device} did not show it, nor did any device"
            yield "I1", what, (*self._story(produce), final)

    def _is_owed(self, produce: Produce, final: AtEnd) -> bool:
        operations = self._operations
        if produce.op not in operations.ok or produce.poison or produce.device not in ("", final.device):
            return False
        return not (operations.is_dead(produce) or operations.has_status(produce, present=True))

    def _hidden(self, place: Place, view: View) -> int:
        """Return how many seqs nobody showed lie where the device was told that it gets nothing."""
        known = self._entries.get(place, {})
        start = view.limit if view.cursor is None else view.base
        told = {seq for one in view.told if not isinstance(one.event, Gap) for seq in range(one.first, one.last + 1)}
        return sum(seq not in known for seq in told.union(range(1, start + 1)))

    def _skipped(self, final: AtEnd, place: Place, view: View) -> Iterator[Found]:
        unseen: dict[str, list[Told]] = defaultdict(list)
        for one in view.told:
            if not isinstance(one.event, Skip) or one.event.reason not in _CAUSES:
                continue
            for seq in range(one.first, one.last + 1):
                entry = self._entries.get(place, {}).get(seq)
                if entry is None:
                    unseen[one.event.reason].append(one)
                elif not self._has_cause(one.event.reason, self._asked(place, entry.id), final.device):
                    what = f"{entry.id} was skipped as {one.event.reason}, which it is not"
                    yield "I1", what, (*self._asked(place, entry.id)[:1], entry, one.event)
        for reason, ranges in unseen.items():
            asked = self._operations.by_log[place[1:]]
            candidates = [produce for produce in asked if self._operations.has_cause(reason, produce, final.device)]
            if len(ranges) > len(candidates):
                what = f"{len(ranges)} entries were skipped as {reason}, and only {len(candidates)} can be"
                yield "I1", what, (*candidates[:1], ranges[-1].event, final)

    def _asked(self, place: Place, id_: str) -> list[Produce]:
        return self._operations.asked_as(*place[1:], id_)

    def _has_cause(self, reason: str, produces: list[Produce], device: str) -> bool:
        return any(self._operations.has_cause(reason, produce, device) for produce in produces)

    def by_nobody(self) -> Iterator[Found]:
        """Give what was shown though nobody produced it, and poison that is nowhere."""
        operations = self._operations
        for place, entries in self._seqs.items():
            for entry in entries.values():
                asked = self._asked(place, entry.id)
                if not asked:
                    yield "I1", f"{entry.id} was shown and nobody produced it", (entry,)
                elif all(produce.op in operations.failed or produce.poison for produce in asked):
                    what = f"{entry.id} was shown, and Kafka never took it as a notification"
                    yield "I1", what, (*self._story(asked[0]), entry)
        for produce in operations.asked.values():
            if produce.poison and produce.op in operations.ok and not operations.is_dead(produce):
                yield "I1", f"{produce.id} is no notification and became no dead letter", self._story(produce)

    def out_of_order(self) -> Iterator[Found]:
        """Give entries of one partition whose seq does not follow their offsets."""
        for place, entries in self._seqs.items():
            taken: dict[int, list[tuple[int, Entry]]] = defaultdict(list)
            for entry in entries.values():
                oks = self._acknowledged(place, entry.id)
                if oks:
                    first = min(oks, key=lambda ok: ok.offset)
                    taken[first.partition].append((first.offset, entry))
            for placed in taken.values():
                placed.sort(key=lambda pair: pair[0])
                for (_, one), (_, two) in itertools.pairwise(placed):
                    if two.seq < one.seq:
                        what = f"{one.id} lies before {two.id} in its partition and after it in the log"
                        story = (*self._acknowledged(place, one.id)[:1], *self._acknowledged(place, two.id)[:1])
                        yield "I2", what, (*story, one, two)

    def _acknowledged(self, place: Place, id_: str) -> list[Produced]:
        """Return where Kafka took an entry's record; one that was a dead letter comes again from elsewhere."""
        operations = self._operations
        asked = operations.by_id.get((*place[1:], id_), [])
        return [operations.ok[p.op] for p in asked if p.op in operations.ok and not operations.is_dead(p)]

    def _story(self, produce: Produce) -> tuple[AnyEvent, ...]:
        answers = (self._operations.ok.get(produce.op), self._operations.failed.get(produce.op))
        return (produce, *(answer for answer in answers if answer is not None))
