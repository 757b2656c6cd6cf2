"""Appends as batches for Cassandra: grouped, bounded, and written as a request has them (`store.wire`).

A micro-batch is mostly one row for each of many logs. Rows of many logs travel in one unlogged batch, which costs a
fifth of as many single writes; the rows of one log that share a batch also share a fate, and those that do not fit
into one batch go in **rounds**, one after the other, so that a head never runs ahead of its rows.
"""

import struct
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from store.buckets import BUCKET_ROWS, bucket_of
from store.port import Append, Row
from store.wire import BATCH_BYTES, integer, prepared, short, unlogged

BATCH_ROWS: Final = 40
AT_ONCE: Final = 4  # batches that a round is cut into at the least, as long as each has
FEW: Final = 4  # logs: a request costs a node as much as some rows
STATEMENT_BYTES: Final = 160  # of a row beside its texts and blobs, about

PUT_ROW: Final = """
INSERT INTO log_rows (log, bucket, seq, src, n, key, digest, ts, expires, device, frame, skip, tat, expiring, latest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"""
PUT_LAST_ROW: Final = """
INSERT INTO log_rows (
    log, bucket, seq, src, n, key, digest, ts, expires, device, frame, skip, tat, expiring, latest,
    head_seq, head_src, head_n, head_expiring, head_latest
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"""

# A value is written as its size and its bytes; these are some that follow each other, up to the size of the next.
_PLACE: Final = struct.Struct(">iqiqiqi").pack  # seq, src, n, the size of key
_TIMES: Final = struct.Struct(">iqiqi").pack  # ts, expires, the size of device
_TAIL: Final = struct.Struct(">iqiqiq").pack  # tat, expiring, latest
_HEAD: Final = struct.Struct(">iqiqiqiqiq").pack  # head_seq, head_src, head_n, head_expiring, head_latest
_EPOCH: Final = struct.Struct(">iq").pack
_ROW_VALUES: Final = short(PUT_ROW.count("?"))
_LAST_ROW_VALUES: Final = short(PUT_LAST_ROW.count("?"))


class Segment:
    """Consecutive rows of one log in one bucket, the last of which carries the head.

    `written` has the values of each row as a request has them: how many there are, and each with its size before it.
    """

    __slots__ = ("key", "rows", "size", "written")

    def __init__(self, append: Append, rows: Sequence[Row], size: int) -> None:
        last = rows[-1]
        self.key, begin = _keys(append.log, bucket_of(last.seq))
        epoch = _EPOCH(8, append.epoch)
        head = _HEAD(8, last.seq, 8, last.src, 8, last.n, 8, last.expiring, 8, last.latest)
        self.written = [b"".join((_ROW_VALUES, begin, *_columns(row), epoch)) for row in rows[:-1]]
        self.written.append(b"".join((_LAST_ROW_VALUES, begin, *_columns(last), head, epoch)))
        self.rows = len(rows)
        self.size = size  # bytes, about


class Group:
    """Segments that travel in one batch to one replica."""

    __slots__ = ("rows", "segments", "size")

    def __init__(self, first: Segment) -> None:
        self.segments = [first]
        self.rows, self.size = first.rows, first.size

    def takes(self, segment: Segment, most: int) -> bool:
        """Add a segment if the batch stays within its bounds and has at most `most` of them."""
        if self.rows + segment.rows > BATCH_ROWS or self.size + segment.size > BATCH_BYTES:
            return False
        if len(self.segments) >= most:
            return False
        self.segments.append(segment)
        self.rows += segment.rows
        self.size += segment.size
        return True


def routing_key(log: bytes, bucket: bytes) -> bytes:
    """Return the partition key (log, bucket) as Cassandra hashes it."""
    return b"".join((short(len(log)), log, b"\0\0\4", bucket, b"\0"))


@lru_cache(50_000)
def _keys(log: str, bucket: int) -> tuple[bytes, bytes]:
    """Return the routing key of a bucket, and the same as the first two values of each of its rows.

    About 500 bytes are kept of each; a log that has an entry mostly gets another one soon.
    """
    name, number = log.encode(), integer(bucket)
    return routing_key(name, number), b"".join((integer(len(name)), name, integer(4), number))


def rounds(appends: Sequence[Append], replica: Callable[[bytes], Hashable]) -> list[list[Group]]:
    """Plan appends: what is in one round may be sent at once, the next round only after it has been answered.

    `replica` names the node that a routing key belongs to. Raises `struct.error` or `UnicodeEncodeError` for a value
    that does not fit its column.
    """
    most = max(FEW, -(-len(appends) // AT_ONCE))
    planned: list[list[Group]] = []
    last_groups: list[dict[Hashable, Group]] = []
    begun: dict[str, int] = {}  # rounds that a log has taken already
    for append in appends:
        for rows, size in _cut(append):
            number = begun[append.log] = begun.get(append.log, -1) + 1
            if number == len(planned):
                planned.append([])
                last_groups.append({})
            segment = Segment(append, rows, size)
            home = replica(segment.key)
            group = last_groups[number].get(home)
            if group is None or not group.takes(segment, most):
                group = last_groups[number][home] = Group(segment)
                planned[number].append(group)
    return planned


def new_buckets(appends: Sequence[Append]) -> list[tuple[str, int]]:
    """Return (log, bucket) for each bucket but the first of a log that the appends begin."""
    return [(append.log, bucket_of(row.seq)) for append in appends for row in append.rows if row.seq % BUCKET_ROWS == 0]


def batch(group: Group, put_row: bytes, put_last_row: bytes) -> Any:
    """Return the driver's statement of a group, given the ids of the prepared `PUT_ROW` and `PUT_LAST_ROW`."""
    row, last_row = prepared(put_row), prepared(put_last_row)
    parts: list[bytes] = []
    for segment in group.segments:
        *before, last = segment.written
        for values in before:
            parts += (row, values)
        parts += (last_row, last)
    return unlogged(group.rows, b"".join(parts), group.segments[0].key)


def _cut(append: Append) -> Iterable[tuple[list[Row], int]]:
    """Cut the rows of a log into what fits a batch and a bucket, each with its size in bytes."""
    if len(append.rows) == 1:  # as nearly always
        return ((append.rows, _size(append.log, append.rows[0])),)
    return _cut_many(append)


def _cut_many(append: Append) -> Iterator[tuple[list[Row], int]]:
    rows: list[Row] = []
    size = 0
    for row in append.rows:
        cost = _size(append.log, row)
        full = len(rows) == BATCH_ROWS or size + cost > BATCH_BYTES
        if rows and (full or row.seq % BUCKET_ROWS == 0):
            yield rows, size
            rows, size = [], 0
        rows.append(row)
        size += cost
    yield rows, size


def _size(log: str, row: Row) -> int:
    return STATEMENT_BYTES + len(log) + len(row.key) + len(row.device) + len(row.frame)


def _columns(row: Row) -> tuple[bytes, ...]:
    """Return the values from `seq` to `latest`, each after its size."""
    key, device, skip = row.key.encode(), row.device.encode(), row.skip.encode()
    return (
        _PLACE(8, row.seq, 8, row.src, 8, row.n, len(key)), key, integer(len(row.digest)), row.digest,
        _TIMES(8, row.ts, 8, row.expires, len(device)), device, integer(len(row.frame)), row.frame,
        integer(len(skip)), skip, _TAIL(8, row.tat, 8, row.expiring, 8, row.latest),
    )  # fmt: skip
