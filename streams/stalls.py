"""Which partitions stand still: those whose oldest record has been tried for too long. Pure.

Time is counted by looks, of which each counts a bounded while, so that a process that was frozen finds nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from faust.types import TP

STALLED: Final = 30.0  # s that one record may be tried
ERROR_LENGTH: Final = 200  # characters of an error that are kept
UNANSWERED: Final = "no answer yet"


class Stall(msgspec.Struct, frozen=True):
    """A partition that stands still at `offset`, for `seconds` as of the last look, and the last error."""

    topic: str
    partition: int
    offset: int
    seconds: float
    error: str

    def __str__(self) -> str:
        return f"{self.place()} ({self.error})"

    def place(self) -> str:
        """Return which record it is, as `topic:partition@offset`."""
        return f"{self.topic}:{self.partition}@{self.offset}"


class _Trying:
    __slots__ = ("error", "offset", "said", "seconds")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.seconds = 0.0
        self.error = UNANSWERED
        self.said = False


class _Work:
    """What one work tries; which records are the oldest is found out only when somebody looks."""

    __slots__ = ("before", "found", "messages")

    def __init__(self, messages: Sequence[Any], before: "_Work | None") -> None:
        self.messages = messages
        self.before = before.places() if before and before.found is not None else {}
        self.found: dict[TP, _Trying] | None = None

    def places(self) -> dict[TP, _Trying]:
        if self.found is None:
            self.found = {}
            for message in self.messages:
                if message.tp not in self.found:
                    known = self.before.get(message.tp)
                    same = known is not None and known.offset == message.offset
                    self.found[message.tp] = known if known and same else _Trying(message.offset)
        return self.found


class Stalls:
    """What one agent tries, by who tries it: a batch, or work beside the turnstile.

    `begin`, `failed` and `end` belong to one work; `look` is called in between.
    """

    def __init__(self, limit: float = STALLED) -> None:
        self._limit = limit
        self._works: dict[int, _Work] = {}

    def begin(self, work: int, messages: Sequence[Any]) -> list[Stall]:
        """Note that these records are being tried; of each partition the first counts. `work` is a number of its own.

        Repeating it leaves the time of what is still the oldest as it is; what is no longer is returned, if it had been
        said to stand still.
        """
        now = self._works[work] = _Work(messages, self._works.get(work))
        if not now.before:
            return []
        return [_stall(tp, one) for tp, one in now.before.items() if one.said and now.places().get(tp) is not one]

    def failed(self, work: int, error: str) -> None:
        """Note why a try failed."""
        for trying in self._places(work).values():
            trying.error = error[:ERROR_LENGTH]

    def end(self, work: int) -> list[Stall]:
        """Forget a work; return the partitions that had been said to stand still."""
        ended = self._works.pop(work, None)
        if ended is None or ended.found is None:
            return []
        return [_stall(tp, trying) for tp, trying in ended.found.items() if trying.said]

    def look(self, elapsed: float) -> list[Stall]:
        """Count `elapsed` more seconds; return the partitions that stand still since this look, each once."""
        found: list[Stall] = []
        for work in self._works.values():
            for tp, trying in work.places().items():
                trying.seconds += elapsed
                if trying.seconds >= self._limit and not trying.said:
                    trying.said = True
                    found.append(_stall(tp, trying))
        return found

    def standing(self) -> list[Stall]:
        """Return the partitions that stand still, the one that has stood longest first."""
        oldest: dict[TP, Stall] = {}
        for work in self._works.values():
            for tp, trying in (work.found or {}).items():
                if trying.said and (tp not in oldest or trying.offset < oldest[tp].offset):
                    oldest[tp] = _stall(tp, trying)
        return sorted(oldest.values(), key=lambda stall: -stall.seconds)

    def _places(self, work: int) -> dict[TP, _Trying]:
        found = self._works.get(work)
        return found.places() if found else {}


def _stall(tp: TP, trying: _Trying) -> Stall:
    return Stall(tp.topic, tp.partition, trying.offset, trying.seconds, trying.error)


def told(stalls: Iterable[Stall]) -> str | None:
    """Return in one line what stands still, None if nothing does."""
    found = list(stalls)
    return f"stands still: {', '.join(map(str, found[:3]))}{', …' if len(found) > 3 else ''}" if found else None
