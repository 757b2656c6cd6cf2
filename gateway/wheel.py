"""One timer for everybody: a wheel of slots, turned by one task, instead of a timer a session."""

from math import ceil, inf
from typing import Final, Protocol

SLOTS: Final = 64


class Visited(Protocol):
    """What the wheel visits; `slot` belongs to the wheel, 0 means that it is not on it."""

    slot: int

    def visit(self, now: float) -> float:
        """Do what is due by `now` and return when to come again; infinity: not at all."""


class Wheel:
    """Visits items when they are due, at most one `step` (s) late. Times are those of one steady clock."""

    def __init__(self, step: float, now: float) -> None:
        self.step = step
        self._turned = int(now / step)
        self._slots: list[list[Visited]] = [[] for _ in range(SLOTS)]

    def schedule(self, item: Visited, due: float) -> None:
        """Visit `item` at `due`, never if that is infinity; what is due after more than one turn is visited sooner."""
        if due == inf:
            return
        soonest, latest = self._turned + 1, self._turned + SLOTS - 1
        slot = min(max(soonest, ceil(due / self.step)), latest) if due < latest * self.step else latest
        if item.slot == 0 or slot < item.slot:
            item.slot = slot
            self._slots[slot % SLOTS].append(item)

    def turn(self, now: float) -> None:
        """Visit all that is due by `now`."""
        upto = int(now / self.step)
        # After a long stop every slot is visited once, not once a missed turn.
        for slot in range(max(self._turned + 1, upto - SLOTS + 1), upto + 1):
            self._turned = slot
            items, self._slots[slot % SLOTS] = self._slots[slot % SLOTS], []
            for item in items:
                if 0 < item.slot <= slot:  # else it was moved to a sooner slot
                    item.slot = 0
                    self.schedule(item, item.visit(now))
