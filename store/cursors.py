"""Cursors as batches for Cassandra: watermarks of many devices in one request, each with its value as its time."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

from store.port import Cursor
from store.wire import BATCH_BYTES, integer, prepared, short, unlogged

STATEMENTS: Final = 150  # in one batch
STATEMENT_BYTES: Final = 100  # of one beside its texts, about

PUT_DELIVERED: Final = "INSERT INTO cursors (user, log, device, delivered) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
PUT_READ: Final = "INSERT INTO cursors (user, log, device, read) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"

_VALUES: Final = short(PUT_DELIVERED.count("?"))
_MARK: Final = struct.Struct(">iqiq").pack  # a watermark, and again as the time at which it was written


def cursor_batches(cursors: Sequence[Cursor], put_delivered: bytes, put_read: bytes) -> Iterator[tuple[Any, int]]:
    """Yield the driver's statements that write cursors, each with its size in bytes, given the ids of the prepared.

    Most devices say what they have, few what was read: who has read nothing writes no mark of it. Raises
    `struct.error` or `UnicodeEncodeError` for a value that does not fit its column.
    """
    delivered, read = prepared(put_delivered) + _VALUES, prepared(put_read) + _VALUES
    parts: list[bytes] = []
    size, key = 0, b""
    for cursor in cursors:
        user, log, device = cursor.user.encode(), cursor.log.encode(), cursor.device.encode()
        place = b"".join((integer(len(user)), user, integer(len(log)), log, integer(len(device)), device))
        cost = (len(place) + STATEMENT_BYTES) * (2 if cursor.read else 1)
        if parts and (len(parts) >= STATEMENTS or size + cost > BATCH_BYTES):
            yield unlogged(len(parts), b"".join(parts), key), size
            parts, size = [], 0
        parts.append(b"".join((delivered, place, _MARK(8, cursor.delivered, 8, cursor.delivered))))
        if cursor.read:
            parts.append(b"".join((read, place, _MARK(8, cursor.read, 8, cursor.read))))
        size += cost
        key = user
    if parts:
        yield unlogged(len(parts), b"".join(parts), key), size
