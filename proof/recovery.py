"""How long it took until everything was as before: read off a history."""

import bisect
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from proof.history import AnyEvent, AtEnd, Connected, Disconnected, Entry, Fault, Produce, Produced


class Recoveries(msgspec.Struct):
    """Seconds.

    `after`: by the time at which a fault was over, until the last device had shown what was acknowledged by then (0: it
    had already); `reconnects`: from each loss of a connection to the next welcome of that device.
    """

    after: dict[float, float]
    reconnects: list[float]

    @classmethod
    def of(cls, events: Iterable[AnyEvent]) -> "Recoveries":
        """Return those of a history."""
        reader = _Reader()
        for event in events:
            reader.feed(event)
        return cls(reader.after(), reader.reconnects)


class _Reader:
    def __init__(self) -> None:
        self.reconnects: list[float] = []
        self._spans: list[tuple[float, float]] = []  # begin and end of faults
        self._begun: dict[str, float] = {}
        self._asked: dict[int, tuple[str, str, str]] = {}
        self._taken: dict[tuple[str, str, str], float] = {}  # by (user, log, id)
        self._shown: defaultdict[tuple[str, str, str], list[tuple[float, str]]] = defaultdict(list)
        self._late: set[tuple[str, str]] = set()
        self._gone: dict[tuple[str, str], float] = {}

    def feed(self, event: AnyEvent) -> None:
        match event:
            case Produce():
                self._asked[event.op] = (event.user, f"inbox/{event.lane}", event.id)
            case Produced():
                self._taken.setdefault(self._asked[event.op], event.at)
            case Entry(shown=True):
                self._shown[event.user, event.log, event.id].append((event.at, event.device))
            case Fault(phase="begin"):
                self._begun[event.name] = event.at
            case Fault():
                self._spans.append((self._begun.get(event.name, event.at), event.at))
            case Disconnected():
                self._gone.setdefault((event.user, event.device), event.at)
            case Connected():
                if (gone := self._gone.pop((event.user, event.device), None)) is not None:
                    self.reconnects.append(event.at - gone)
            case AtEnd(late=True):
                self._late.add((event.user, event.device))

    def after(self) -> dict[float, float]:
        """Return the recovery of each fault by the time of its end.

        What was shown while the next fault lasted, or after it, is not held against the one before.
        """
        found = dict.fromkeys((end for _, end in self._spans), 0.0)
        begins, ends = [begin for begin, _ in self._spans], [end for _, end in self._spans]
        for key, taken in self._taken.items():
            for at, device in self._shown[key]:
                last = bisect.bisect_right(ends, at) - 1
                under_way = last + 1 < len(begins) and begins[last + 1] <= at
                if last >= 0 and taken <= ends[last] and not under_way and (key[0], device) not in self._late:
                    found[ends[last]] = max(found[ends[last]], at - ends[last])
        return found
