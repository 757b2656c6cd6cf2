"""How Cassandra keeps a log: buckets of 4,096 seqs, each with its own head. Pure rules, no I/O.

The head of a bucket is written with its rows, under the owner's epoch, so a higher epoch sets it and a lower one cannot
move it. The head of the log is that of the highest bucket whose epoch is not below that of the bucket before: what an
owner that had lost its partition still wrote into a new bucket is therefore invisible, as are its rows above the head
within a bucket. (To be taken for the owner it would have to fill a whole bucket unseen.)

`last_bucket` is written before the first row of a bucket. It may be ahead of the rows after a crash, or because such a
former owner wrote it, so the search goes down from it; it also looks one up when the bucket it names is full.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from store.port import Range

BUCKET_BITS: Final = 12
BUCKET_ROWS: Final = 1 << BUCKET_BITS
READ_ROWS: Final = 256  # rows of one query: at most some 16 MB of frames, mostly 100 kB


class End(NamedTuple):
    """The head of one bucket, and the epoch that it was written under."""

    epoch: int
    seq: int
    src: int
    n: int
    expiring: int = 0
    latest: int = 0


def end_of(values: Sequence[int | None]) -> End | None:
    """Return a head as it was read, None if there is none; rows older than migration 0004 say less."""
    epoch, seq, src, n, expiring, latest = values
    if epoch is None or seq is None or src is None or n is None:
        return None
    return End(epoch, seq, src, n, expiring or 0, latest or 0)


def bucket_of(seq: int) -> int:
    """Return the bucket of a seq; bucket 0 holds seq 1 to 4,095."""
    return seq >> BUCKET_BITS


def is_full(bucket: int, end: End | None) -> bool:
    """Tell whether a bucket has its last row, so that the log may go on in the next."""
    return end is not None and end.seq == ((bucket + 1) << BUCKET_BITS) - 1


def is_short(wanted: Range) -> bool:
    """Tell whether a range can be read without a look at the log's head: one query, in bucket 0."""
    return wanted.last < BUCKET_ROWS and wanted.last - wanted.first < READ_ROWS


def window(bucket: int) -> range:
    """Return the buckets in which to look for the head of a log whose last bucket is said to be `bucket`."""
    return range(max(0, bucket - 1), bucket + 2)


def last_end(ends: Mapping[int, End | None]) -> End | None:
    """Return the head among neighbouring buckets, None if none of them has any."""
    best: End | None = None
    for bucket in sorted(ends):
        end = ends[bucket]
        if end is not None and (best is None or end.epoch >= best.epoch):
            best = end
    return best


def pieces(wanted: Range) -> Iterable[tuple[int, int, int]]:
    """Split a range into (bucket, first, last) for queries of at most `READ_ROWS` rows, by seq."""
    first = max(1, wanted.first)
    while first <= wanted.last:
        bucket = bucket_of(first)
        last = min(wanted.last, first + READ_ROWS - 1, ((bucket + 1) << BUCKET_BITS) - 1)
        yield bucket, first, last
        first = last + 1
