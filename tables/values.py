"""The values of a table as objects, of which the ones used last are kept as they are.

A worker asks for a value a record, and most users who get one get another soon. What is kept is what the files hold,
for values change in two ways only: by `write`, and by a recovery, after which nothing is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from streams.producer import BatchProducer
from tables.kept import UNKNOWN, Kept
from tables.rocks import RocksTable

_T = TypeVar("_T")


def _place(partition: int, key: bytes) -> bytes:
    return partition.to_bytes(4, "big") + key


class Values(Generic[_T]):
    """Values by key and partition. They are shared: who is given one must not change it."""

    def __init__(self, rocks: RocksTable, encode: Callable[[_T], bytes], decode: Callable[[bytes], _T]) -> None:
        self._rocks = rocks
        self._encode = encode
        self._decode = decode
        self._kept: Kept[bytes, _T | None] = Kept()
        rocks.on_recovery = self._kept.clear

    def get(self, partition: int, key: bytes) -> _T | None:
        """Return the value of a key of an owned partition. Raises `TableBroken`."""
        place = _place(partition, key)
        value: _T | None = self._kept.get(place)
        if value is UNKNOWN:
            found = self._rocks.get(partition, key)
            value = None if found is None else self._decode(found)
            self._kept.keep(place, value)
        return value

    async def write(self, producer: BatchProducer, changes: Mapping[int, Sequence[tuple[bytes, _T | None]]]) -> None:
        """Write values by partition, None deletes; return when the changelog and the files have them."""
        encoded = {
            partition: [(key, None if value is None else self._encode(value)) for key, value in items]
            for partition, items in changes.items()
        }
        try:
            await self._rocks.write(producer, encoded)
        except BaseException:
            for partition, items in changes.items():
                for key, _ in items:
                    self._kept.drop(_place(partition, key))  # it may have failed half way: the files say what is true
            raise
        for partition, items in changes.items():
            for key, value in items:
                self._kept.keep(_place(partition, key), value)
