"""What Cassandra is to write again under a higher epoch. Pure rules, no I/O.

Rows and the heads of their buckets are looked at one after the other, and a former owner may write between two looks.
What was seen then does not fit together (it is **torn**), and has to be looked at again.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from store.buckets import End, bucket_of, is_full
from store.port import Rewrite, Row

PUT_HEAD: Final = """
UPDATE log_rows USING TIMESTAMP ?
SET head_seq = ?, head_src = ?, head_n = ?, head_expiring = ?, head_latest = ? WHERE log = ? AND bucket = ?"""


class Seen:
    """Rows and heads as they were seen: the end of the log, the rows, and then the head of each of their buckets."""

    __slots__ = ("end", "heads", "rows", "wanted")

    def __init__(self, wanted: Rewrite, end: End | None, rows: Sequence[Row]) -> None:
        self.wanted = wanted
        self.end = end
        self.rows = rows
        self.heads: dict[int, End | None] = {}

    def is_torn(self) -> bool:
        """Say whether it was written to between the looks: rows are missing, or a head is another one."""
        if self.end is None:
            return False
        last = min(self.wanted.last, self.end.seq)
        if last >= self.wanted.first and (not self.rows or self.rows[-1].seq < last):
            return True
        *before, bucket = places(self)
        return self.heads[bucket] != self.end or not all(is_full(each, self.heads[each]) for each in before)


def places(seen: Seen) -> Sequence[int]:
    """Return the buckets whose heads are to be written again."""
    if seen.end is None:
        return ()
    last = bucket_of(seen.end.seq)
    return range(min(last, bucket_of(seen.wanted.first)), last + 1)


def rows_again(seen: Seen) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Give the values of each row, for `PUT_ROW`, and its size in bytes, about."""
    log, epoch = seen.wanted.log, seen.wanted.epoch
    for row in seen.rows:
        yield (log, bucket_of(row.seq), *msgspec.structs.astuple(row), epoch), len(row.frame)


def heads_again(seen: Seen) -> Iterator[tuple[Any, ...]]:
    """Give the values of each head, for `PUT_HEAD`."""
    for bucket, head in seen.heads.items():
        if head is not None:
            yield (seen.wanted.epoch, *head[1:], seen.wanted.log, bucket)
