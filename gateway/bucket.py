"""How much a client may say and how much it is sent: buckets of tokens that fill at a rate."""

from typing import Final

import msgspec

RATE: Final = 50.0  # frames a second that a client may say
BURST: Final = 200.0  # frames that it may say at once


class Limits(msgspec.Struct, frozen=True):
    """`rate` a second, `burst` at once: frames that a client may say, or entries that a session is sent."""

    rate: float = RATE
    burst: float = BURST


LIMITS: Final = Limits()


class Bucket:
    """Full at the beginning; what is spent comes back at the rate."""

    __slots__ = ("_at", "_left", "_limits")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._left = limits.burst
        self._at = now

    def spend(self, now: float, cost: float) -> bool:
        """Take `cost` frames out; return False if more was taken than there was."""
        limits = self._limits
        self._left = min(limits.burst, self._left + (now - self._at) * limits.rate) - cost
        self._at = now
        return self._left >= 0


class Pace:
    """How fast a log is handed on: when the bucket is empty nothing is, until it is half full again.

    So what is held back is read from the store in pages, not one by one, and what a later entry replaces is merged
    there.
    """

    __slots__ = ("_at", "_left", "_limits", "resumes")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._left = limits.burst
        self._at = now
        self.resumes = now  # when the log is handed on again

    def refill(self, now: float) -> None:
        """Let the time pass."""
        limits = self._limits
        self._left = min(limits.burst, self._left + (now - self._at) * limits.rate)
        self._at = now

    def spend(self) -> None:
        """Take one entry out."""
        self._left -= 1
        if self._left < 1:
            self.resumes = self._at + max(1.0, self._limits.burst / 2) / self._limits.rate

    def empty(self) -> bool:
        """Tell whether the log is held back."""
        return self._at < self.resumes
