"""One log as one device saw it: where its cursor stood, what it showed, what it was told that it would not get."""

from collections.abc import Iterator

import msgspec

from proof.history import AnyEvent, Entry, Gap, Reset, Skip, TooLong

Found = tuple[str, str, tuple[AnyEvent, ...]]  # (invariant, what, events)


class Told(msgspec.Struct, frozen=True):
    """A range of a log that a device was told it would not be sent; a `gap` may still come."""

    first: int
    last: int
    event: Skip | Gap | TooLong | Reset


class View:
    """A device's view of one log, fed with what the device received.

    `limit` is up to where the log may have begun for this device: what others of its user had acknowledged when it
    came for the first time. Methods give what was wrong with what came.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.base = 0  # the log begins after this for the device
        self.cursor: int | None = None
        self.shown: dict[int, Entry] = {}
        self.ids: dict[str, Entry] = {}
        self.told: list[Told] = []
        self._last: AnyEvent | None = None  # what set the cursor

    def entry(self, event: Entry) -> Iterator[Found]:
        """Take an entry."""
        before = self.cursor
        if not event.shown:
            if event.seq not in self.shown and event.seq > self._start(event.seq):
                yield "I1", f"{event.id} was new to the device, which did not show it", self._with_last(event)
            return
        if event.seq in self.shown:
            yield "I3", f"seq {event.seq} was shown twice", (self.shown[event.seq], event)
        elif event.id in self.ids:
            yield "I3", f"{event.id} was shown twice", (self.ids[event.id], event)
        elif before is not None and event.seq <= before:
            yield "I2", f"seq {event.seq} was shown after {before}", self._with_last(event)
        yield from self._rise(event, event.seq, event.seq)
        self.shown.setdefault(event.seq, event)
        self.ids.setdefault(event.id, event)

    def skip(self, event: Skip) -> Iterator[Found]:
        """Take a `skip`."""
        cursor = self._start(event.first)
        yield from self._rise(event, event.first, event.last)
        if event.last > cursor:
            self.told.append(Told(max(event.first, cursor + 1), event.last, event))

    def gap(self, event: Gap) -> None:
        """Take a `gap`, which leaves the cursor where it is."""
        self.told.append(Told(event.first, event.last, event))

    def jump(self, event: TooLong | Reset) -> None:
        """Take what sets the cursor."""
        cursor = self.cursor or 0
        if event.head > cursor:
            self.told.append(Told(cursor + 1, event.head, event))
        if isinstance(event, Reset) or event.head > cursor:
            self.cursor, self._last = event.head, event

    def excuse(self, seq: int) -> Told | None:
        """Return what told the device that it would not be sent an entry; a `gap` does not say that."""
        return next((one for one in self.told if one.first <= seq <= one.last and not isinstance(one.event, Gap)), None)

    def missed(self, seq: int) -> bool:
        """Return whether the entry lies where the log had not begun for the device."""
        return seq <= (self.limit if self.cursor is None else self.base)

    def around(self, seq: int) -> tuple[AnyEvent, ...]:
        """Return what the device showed next before and next after a seq."""
        before = max((each for each in self.shown if each < seq), default=None)
        after = min((each for each in self.shown if each > seq), default=None)
        return tuple(self.shown[each] for each in (before, after) if each is not None)

    def _start(self, first: int) -> int:
        """Return the cursor; the first frame of all says where the log begins, within the limit."""
        if self.cursor is None:
            self.base = self.cursor = min(self.limit, first - 1)
        return self.cursor

    def _rise(self, event: Entry | Skip, first: int, last: int) -> Iterator[Found]:
        cursor = self._start(first)
        if first > cursor + 1 and not self._announced(cursor + 1, first - 1):
            what = f"{cursor + 1} to {first - 1} were neither sent nor announced"
            yield "I4", what, self._with_last(event)
        if last > cursor:
            self.cursor, self._last = last, event

    def _announced(self, first: int, last: int) -> bool:
        """Return whether ranges that were told cover a hole."""
        reached = first
        for one in sorted(self.told, key=lambda told: told.first):
            if one.first <= reached <= one.last:
                reached = one.last + 1
        return reached > last

    def _with_last(self, event: AnyEvent) -> tuple[AnyEvent, ...]:
        return (event,) if self._last is None else (self._last, event)
