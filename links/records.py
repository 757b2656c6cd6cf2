"""Record batches as they lie in Kafka (format 2), read record by record, each by its own length. Pure.

aiokafka gives up a whole batch for one record that it cannot read, such as one with a header whose name is not UTF-8.
Here the others are read all the same.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, Self

Headers = tuple[tuple[str, bytes | None], ...]

_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
_CODEC: Final = 0x07
_APPEND_TIME: Final = 0x08
MAGIC: Final = 2
MAX_VARINT: Final = 10  # bytes


class Broken(Exception):
    """What should be a record is none."""


class Head(NamedTuple):
    """The head of a batch: its first and last offset, how its records are packed, their times (ms) and their number."""

    base: int
    last: int
    codec: int
    append_time: bool
    first_time: int
    max_time: int
    records: int

    @classmethod
    def of(cls, batch: bytes | memoryview) -> Self | None:
        """Return the head of a batch; None where it is of another format, or says what cannot be."""
        if len(batch) < _HEAD.size:
            return None
        base, _, _, magic, _, attributes, delta, first, greatest, _, _, _, count = _HEAD.unpack_from(batch)
        if magic != MAGIC or base < 0 or delta < 0 or not 0 <= count <= delta + 1:
            return None
        append_time = bool(attributes & _APPEND_TIME)
        return cls(base, base + delta, attributes & _CODEC, append_time, first, greatest, count)


class Found(NamedTuple):
    """A record that was read; `ts` is in ms."""

    offset: int
    ts: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Unread(NamedTuple):
    """Offsets of a batch whose records cannot be read, and why."""

    first: int
    last: int
    why: str


def body_of(batch: bytes | memoryview) -> memoryview:
    """Return what follows the head of a batch: its records, packed."""
    return memoryview(batch)[_HEAD.size :]


def records_of(head: Head, body: bytes) -> Iterator[Found | Unread]:
    """Yield what the unpacked records of a batch are, in the order in which they lie."""
    data = memoryview(body)
    at, due = 0, head.base  # `due` is the offset that comes next, as far as one can tell
    for _ in range(head.records):
        try:
            begin, at = _place(data, at)
        except Broken as exc:
            yield Unread(due, head.last, str(exc))
            return
        try:
            record = _record(head, data, begin, at, due)
        except Broken as exc:
            yield Unread(due, due, str(exc))
            due += 1
        else:
            yield record
            due = record.offset + 1


def _place(data: memoryview, at: int) -> tuple[int, int]:
    """Return where a record begins and ends."""
    size, begin = _varint(data, at, len(data))
    if size < 0 or begin + size > len(data):
        raise Broken("a record goes beyond its batch")
    return begin, begin + size


def _record(head: Head, data: memoryview, at: int, end: int, due: int) -> Found:
    later, at = _varint(data, at + 1, end)  # after the attributes, which mean nothing
    delta, at = _varint(data, at, end)
    key, at = _bytes(data, at, end)
    value, at = _bytes(data, at, end)
    count, at = _varint(data, at, end)
    if not 0 <= count <= end - at:
        raise Broken("a record says that it has more headers than it can")
    headers = []
    for _ in range(count):
        name, at = _bytes(data, at, end)
        text, at = _bytes(data, at, end)
        headers.append(((name or b"").decode("utf-8", "replace"), text))
    if at != end:
        raise Broken("a record is not as long as it says")
    if not due <= head.base + delta <= head.last:
        raise Broken("a record's offset is not one of its batch")
    ts = head.max_time if head.append_time else head.first_time + later
    return Found(head.base + delta, ts, key, value, tuple(headers))


def _bytes(data: memoryview, at: int, end: int) -> tuple[bytes | None, int]:
    size, at = _varint(data, at, end)
    if size == -1:
        return None, at
    if size < 0 or at + size > end:
        raise Broken("a field goes beyond its record")
    return bytes(data[at : at + size]), at + size


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends; numbers are zigzag, 7 bits a byte, lowest first."""
    value = 0
    for number in range(MAX_VARINT):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value >> 1 ^ -(value & 1), at
    raise Broken("a number does not end")
