"""The port of the durable store. Every write is idempotent; a call returns when all of it is durable.

There are no transactions across logs. Writes of a partition's owner carry its epoch, and a write under a lower epoch
never takes the place of one under a higher (see `claim`).
"""

from collections.abc import Sequence
from typing import Protocol

from schemas.rows import MOST_CURSORS, RECENT, Append, Cursor, Device, Head, Mark, Range, Rewrite, Row, Standing

__all__ = [
    "MOST_CURSORS", "RECENT", "Append", "Cursor", "Device", "Head", "Mark", "Migrations", "Range", "Rewrite", "Row",
    "Standing", "Store",
]  # fmt: skip


class Store(Protocol):
    """What both stores do."""

    async def open(self) -> None:
        """Connect. Raises `StoreBehind` if migrations are missing and `StoreError` if the store cannot be reached."""

    async def close(self) -> None:
        """End all connections; what was acknowledged stays."""

    async def epoch(self) -> str:
        """Return the identity of this store, made once with it: cursors of another one mean nothing here."""

    async def new_epoch(self) -> str:
        """Give the store another identity, and forget all cursors and devices, while nobody else writes.

        For who makes logs anew. Returns the identity. Devices that bring cursors of before are told `reset`.
        """

    async def claim(self, stream: str, partition: int, owner: str) -> int:
        """Make `owner` the writer of a partition and return its epoch, higher than every one before (µs)."""

    async def heads(self, logs: Sequence[str], recent: int = RECENT) -> dict[str, Head]:
        """Return the end of each log with the marks of its last `recent` rows; an empty `Head` where it has no rows."""

    async def append(self, batches: Sequence[Append]) -> None:
        """Write rows and heads. Repeating it changes nothing; under a lower epoch it has no effect."""

    async def rewrite(self, rewrites: Sequence[Rewrite]) -> None:
        """Write rows and heads again as they are, under a higher epoch.

        What owners of lower epochs still write to these rows, or to the head of such a log, has no effect from then on.
        Rows beyond the head are not written.
        """

    async def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        """Return the rows of each range, by seq; what lies beyond the log's head is not shown."""

    async def expiries(self, ranges: Sequence[Range]) -> list[list[int]]:
        """Return when the countable entries of each range expire (ms since 1970), without those that never do."""

    async def put_cursors(self, cursors: Sequence[Cursor]) -> None:
        """Merge watermarks by max."""

    async def get_cursors(self, users: Sequence[str]) -> dict[str, list[Cursor]]:
        """Return cursors of each user by log and device, at most `MOST_CURSORS`; an empty list where there are none."""

    async def standings(self, wanted: Sequence[tuple[str, str]], logs: Sequence[str]) -> list[Standing]:
        """Return what is known of each (user, device) in some logs, however many devices the user has."""

    async def put_devices(self, devices: Sequence[Device]) -> None:
        """Note devices in the place of what was noted of them."""

    async def seen_devices(self, user: str, limit: int) -> dict[str, int]:
        """Return when devices of a user were last seen, s since 1970, of at most `limit` of them."""

    async def forget_devices(self, user: str, devices: Sequence[str], logs: Sequence[str]) -> None:
        """Forget devices of a user, with their cursors in some logs. One that comes back is noted anew."""

    async def incarnations(self) -> dict[str, int]:
        """Return how often each topic has been made."""

    async def put_incarnation(self, topic: str, incarnation: int) -> None:
        """Note that a topic was made again; a lower number than the one noted changes nothing."""


class Migrations(Protocol):
    """Changes of the store's schema, in order; each is applied once."""

    async def pending(self) -> list[str]:
        """Return the names of the migrations that are not applied, in order. Makes nothing."""

    async def apply(self) -> list[str]:
        """Apply them and return their names."""
