"""How many entries of a log are unread: the countable ones after the read mark that have not expired by now.

Rows carry running counts, so no entry is looked at unless some of the unread ones have expired and others not yet. Then
the last `LOOKED_AT` entries are looked at; those further back have expired if the latest of them has, else they count.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from schemas.rows import Head, Range, Row

LOOKED_AT: Final = 1_000  # entries of a log

Rows = Mapping[Range, Sequence[Row]]


class Unread(NamedTuple):
    """What is to be counted: a log by its key in the store, its head, and up to where its user has read it."""

    log: str
    head: Head
    read: int

    @property
    def most(self) -> int:
        """How many entries are looked at, at most."""
        return min(LOOKED_AT, self.head.seq - self.read, self.head.expiring)

    def rows(self) -> Iterator[Range]:
        """Give the rows that are needed to count, each as a range of one: those at the edges of what is looked at."""
        if self.read < self.head.seq:
            if self.read > 0:
                yield self._at(self.read)
            if self.head.expiring and self._far > self.read:
                yield self._at(self._far)

    def looked_at(self, rows: Rows, now_ms: int) -> Range | None:
        """Return the rows whose expiries are needed as well, if any."""
        if self.read >= self.head.seq or self.head.latest <= now_ms or not self._expiring(rows):
            return None
        return Range(self.log, max(self.read, self._far) + 1, self.head.seq)

    def total(self, rows: Rows, expiries: Mapping[Range, Sequence[int]], now_ms: int) -> int:
        """Return how many entries are unread."""
        if self.read >= self.head.seq:
            return 0
        read = self._row(rows, self.read)
        return max(0, self.head.n - (read.n if read else 0) - self._expired(rows, expiries, now_ms))

    def _expired(self, rows: Rows, expiries: Mapping[Range, Sequence[int]], now_ms: int) -> int:
        wanted = self.looked_at(rows, now_ms)
        if wanted is None:
            return self._expiring(rows)
        expired = sum(expires <= now_ms for expires in expiries[wanted])
        before = self._row(rows, self._far) if self._far > self.read else None
        if before and before.latest <= now_ms:
            expired += max(0, self._expiring(rows) - (self.head.expiring - before.expiring))
        return expired

    def _expiring(self, rows: Rows) -> int:
        """Return how many of the unread entries expire at some time."""
        read = self._row(rows, self.read)
        return max(0, self.head.expiring - (read.expiring if read else 0))

    @property
    def _far(self) -> int:
        return self.head.seq - LOOKED_AT

    def _at(self, seq: int) -> Range:
        return Range(self.log, seq, seq)

    def _row(self, rows: Rows, seq: int) -> Row | None:
        found = rows.get(self._at(seq)) if seq > 0 else None
        return found[0] if found else None
