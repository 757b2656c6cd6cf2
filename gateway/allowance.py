"""What the sessions of one user may do together in this gateway. Pure: every time is s of one steady clock.

All sessions of a user draw on one allowance, so that opening more of them brings a user nothing. Three of its four
budgets slow the user down or turn a connection away; only frames that cost us an answer can end a session.
"""

from typing import Final

import msgspec

from gateway.bucket import Limits

READ_BYTES: Final = 512  # bytes read that count as one more frame: a long frame costs more than a short one


class Quotas(msgspec.Struct, frozen=True):
    """The budgets of one user; None: any.

    `connections` that are opened, `frames` that are said (acknowledgements are free), `entries` that `sync` asks for,
    and `reads`, everything that is read from the user's sockets.
    """

    connections: Limits | None = Limits(2, 120)
    frames: Limits | None = Limits(100, 1_000)
    entries: Limits | None = Limits(2_000, 20_000)
    reads: Limits | None = Limits(5_000, 20_000)


QUOTAS: Final = Quotas()


class Allowance(msgspec.Struct, gc=False, eq=False):
    """The budgets of one user (see `Limits`), and how many sessions draw on them: `uses`."""

    quotas: Quotas = QUOTAS
    connections: float = 0.0
    frames: float = 0.0
    entries: float = 0.0
    reads: float = 0.0
    uses: int = 0

    def connect(self, now: float) -> float:
        """Count a connection; return 0, or in how many s the user may try again."""
        limits = self.quotas.connections
        if limits is None:
            return 0.0
        opened, wait = limits.spend(self.connections, now)
        if not wait:
            self.connections = opened
        return wait

    def say(self, now: float, cost: float) -> bool:
        """Count frames; return False if more was said than may be."""
        limits = self.quotas.frames
        if limits is None:
            return True
        self.frames, wait = limits.spend(self.frames, now, cost)
        return not wait

    def ask(self, now: float, entries: int) -> float:
        """Count entries that are asked for; return 0, or in how many s to ask, and then nothing is counted."""
        limits = self.quotas.entries
        if limits is None:
            return 0.0
        if not (wait := limits.wait(self.entries, now)):
            self.entries = limits.spent(self.entries, now, entries)
        return wait

    def read(self, now: float, frames: int, size: int) -> float:
        """Count what was read; return for how many s to read no more."""
        limits = self.quotas.reads
        if limits is None:
            return 0.0
        self.reads, wait = limits.spend(self.reads, now, frames + size / READ_BYTES)
        return wait

    def spare(self, now: float) -> bool:
        """Tell whether all budgets are whole, so that there is nothing to remember."""
        return max(self.connections, self.frames, self.entries, self.reads) <= now
