"""Batches of prepared statements in the form of the wire, which costs a third of having the driver bind values.

A request has of each statement the id, how many values it has, and each value after its size; that is what callers
write. Where the driver keeps the statements of a batch is private to it, which is why its version is pinned.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final, Self

from cassandra.query import BatchStatement, BatchType

BATCH_BYTES: Final = 48 * 1024  # below the size at which Cassandra warns (64 KiB); a larger row travels alone

integer: Final = struct.Struct(">i").pack
short: Final = struct.Struct(">H").pack


def prepared(id_: bytes) -> bytes:
    """Return how a statement in a batch begins, given the id that it was prepared under."""
    return b"\1" + short(len(id_)) + id_


def unlogged(statements: int, body: bytes, key: bytes) -> Any:
    """Return the driver's batch of statements that are written already, for a replica of the routing key."""
    batch = BatchStatement(batch_type=BatchType.UNLOGGED)
    batch.routing_key = key
    batch._statements_and_parameters = _Written(statements, body)  # noqa: SLF001 - see module
    return batch


class _Written:
    """Statements that are written as a request has them, for a driver that would write them value by value.

    It writes how many statements there are, and of each the id, how many values it has, and each value after its size.
    So it is given one statement with one value: the first one there is, whose bytes go on with all that follows.
    """

    def __init__(self, statements: int, body: bytes) -> None:
        self._statements = statements
        self._body = body

    def __len__(self) -> int:
        return self._statements

    def __iter__(self) -> Iterator[tuple[bool, bytes, "_Values"]]:
        (id_size,) = struct.unpack_from(">H", self._body, 1)
        at = 3 + id_size
        values, size = struct.unpack_from(">Hi", self._body, at)
        yield True, self._body[3:at], _Values(values, _Value(size, self._body[at + 6 :]))


class _Values:
    def __init__(self, count: int, value: "_Value") -> None:
        self._count = count
        self._value = value

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator["_Value"]:
        yield self._value


class _Value(bytes):
    """Bytes that say a size of their own."""

    size: int

    def __new__(cls, size: int, data: bytes) -> Self:
        value = super().__new__(cls, data)
        value.size = size
        return value

    def __len__(self) -> int:
        return self.size
