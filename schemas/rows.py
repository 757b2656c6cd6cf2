"""Rows of the durable store: entries of logs, their heads and the devices' cursors.

They hold no cycles, so the garbage collector need not look at them (`gc=False`).
"""

from typing import Final

import msgspec

RECENT: Final = 256  # rows of a log in which an id is recognised again


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry of a log as it is stored.

    seq      position in the log, dense from 1
    src      packed source position in Kafka (`schemas.ids.source`)
    n        running count of the countable entries up to this one
    key      the producer's id, empty if it gave none
    digest   8 bytes of a hash of the content
    ts       append time in Kafka, ms
    expires  ms since 1970, 0: never
    device   the only device that sees it, empty: all
    frame    the text frame that clients are sent
    skip     why no device is sent it (a reason of the frame `skip`), empty: it is shown
    tat      the log's rate clock after it, µs since 1970 (`streams.limits`)
    expiring running count of the countable entries up to this one that expire
    latest   the latest `expires` of those
    """

    seq: int
    src: int
    n: int
    key: str
    digest: bytes
    ts: int
    expires: int
    device: str
    frame: bytes
    skip: str = ""
    tat: int = 0
    expiring: int = 0
    latest: int = 0

    def mark(self) -> "Mark":
        """Return what of the row decides about records to come."""
        return Mark(self.seq, self.src, self.n, self.key, self.digest, self.skip, self.tat)

    def head(self, recent: "tuple[Mark, ...]") -> "Head":
        """Return the head of a log that ends with this row; `recent` are the marks of its last rows, newest first."""
        return Head(self.seq, self.src, self.n, recent, self.expiring, self.latest)


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What of a row decides about records to come."""

    seq: int
    src: int
    n: int
    key: str
    digest: bytes
    skip: str = ""
    tat: int = 0


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of a log: what its last row says, and the marks of its last rows, newest first."""

    seq: int = 0
    src: int = 0
    n: int = 0
    recent: tuple[Mark, ...] = ()
    expiring: int = 0
    latest: int = 0


class Append(msgspec.Struct, frozen=True, gc=False):
    """Rows for one log, in order of seq, under the epoch of the owner of the log's partition."""

    log: str
    epoch: int
    rows: list[Row]


class Rewrite(msgspec.Struct, frozen=True, gc=False):
    """Rows of a log with first <= seq <= last, and its head, to be written again as they are under an epoch."""

    log: str
    epoch: int
    first: int
    last: int


class Range(msgspec.Struct, frozen=True, gc=False):
    """Rows of a log with first <= seq <= last."""

    log: str
    first: int
    last: int


MOST_CURSORS: Final = 4_000  # cursors of one user that are read at once


class Device(msgspec.Struct, frozen=True, gc=False):
    """A device that opened a session: when it was last `seen` (s since 1970), and after which seq each log began."""

    user: str
    device: str
    seen: int
    starts: dict[str, int]


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """What a device has of a log (by its client name, such as `inbox/normal`): watermarks that only grow.

    Under the empty `device` stands what any device of the user has.
    """

    user: str
    log: str
    device: str
    delivered: int
    read: int

    def merged(self, other: "Cursor") -> "Cursor":
        """Return the higher watermarks of two cursors of the same device and log, each by itself."""
        delivered, read = max(self.delivered, other.delivered), max(self.read, other.read)
        return Cursor(self.user, self.log, self.device, delivered, read)


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What is known of one device: when it was seen, its cursors, and those of the user as a whole."""

    device: Device | None
    cursors: list[Cursor]
