"""What is waited for, and when to say so: decisions only, the time comes from outside.

Something that takes longer than 3 s is named then, every 10 s in its first minute, and every minute after that.
"""

from typing import Final

import msgspec

PATIENCE: Final = 3.0  # s after which it is said what is waited for
_EVERY: Final = 10.0  # s between two lines in the first minute
_MINUTE: Final = 60.0  # s


class _Wait(msgspec.Struct):
    since: float
    due: float = PATIENCE  # s from `since` at which it is named next


class Waits:
    """What is waited for, by name; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}

    def began(self, name: str, now: float) -> None:
        """Note that something is waited for from now on."""
        self._waits[name] = _Wait(now)

    def over(self, name: str, now: float) -> float:
        """Note that it came, or that nobody waits for it any more; return for how long it was waited for."""
        wait = self._waits.pop(name, None)
        return now - wait.since if wait else 0.0

    def overdue(self, now: float) -> list[tuple[str, float]]:
        """Return what has to be named now, with the seconds that it has taken so far."""
        named: list[tuple[str, float]] = []
        for name, wait in self._waits.items():
            taken = now - wait.since
            if taken >= wait.due:
                named.append((name, taken))
                wait.due = _next(taken)
        return named


def _next(taken: float) -> float:
    every = _EVERY if taken < _MINUTE else _MINUTE
    return (taken // every + 1) * every


def so_far(what: str, taken: float, why: str = "") -> str:
    """Return the line that says for how long something goes on and why."""
    return f"{what}, {taken:.0f} s so far{f': {why}' if why else ''}"
