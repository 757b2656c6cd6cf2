"""How much of something there is: buckets of tokens that fill at a rate. Times are s of one steady clock."""

from typing import Final

import msgspec

RATE: Final = 50.0  # frames a second that a session may say
BURST: Final = 200.0  # frames that it may say at once
_SLIP: Final = 1e-6  # s that sums of floats may be off


class Limits(msgspec.Struct, frozen=True):
    """`rate` a second, `burst` at once.

    A bucket is one number, the time at which it is full again, 0 for one that nothing was taken from. So what is
    remembered of thousands of clients is a float each, and it says by itself when there is nothing to remember.
    """

    rate: float = RATE
    burst: float = BURST

    def spent(self, full_at: float, now: float, cost: float = 1.0) -> float:
        """Return when a bucket is full again once `cost` more was taken, whether that was there or not."""
        return max(full_at, now) + cost / self.rate

    def wait(self, full_at: float, now: float) -> float:
        """Return for how many s a bucket is in debt, 0 if it is not."""
        debt = full_at - now - self.burst / self.rate
        return debt if debt > _SLIP else 0.0

    def spend(self, full_at: float, now: float, cost: float = 1.0) -> tuple[float, float]:
        """Return `spent`, and `wait` after that."""
        full_at = (full_at if full_at > now else now) + cost / self.rate  # noqa: FURB136 - a call, for every frame
        debt = full_at - now - self.burst / self.rate
        return full_at, debt if debt > _SLIP else 0.0


LIMITS: Final = Limits()


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
