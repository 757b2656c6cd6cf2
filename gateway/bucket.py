"""How much a client may say: a bucket of tokens that fills at a rate."""

from typing import Final

import msgspec

RATE: Final = 50.0  # frames a second that a client may say
BURST: Final = 200.0  # frames that it may say at once


class Limits(msgspec.Struct, frozen=True):
    """How many frames a client may say: `rate` a second, `burst` at once."""

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
