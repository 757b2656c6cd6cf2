"""The values of a table as objects, of which the ones used last are kept as they are.

A worker asks for two values a record, and most users who get one get another soon. What is kept is what the files hold,
for values change in two ways only: by `write`, and by a recovery, after which nothing is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from streams.producer import BatchProducer
from tables.rocks import RocksTable

KEPT: Final = 20_000  # values of a table; about 1 KB each

_T = TypeVar("_T")
_UNKNOWN: Final[Any] = object()


class Values(Generic[_T]):
    """Values by key and partition. They are shared: who is given one must not change it."""

    def __init__(self, rocks: RocksTable, encode: Callable[[_T], bytes], decode: Callable[[bytes], _T]) -> None:
        self._rocks = rocks
        self._encode = encode
        self._decode = decode
        self._kept: dict[tuple[int, bytes], _T | None] = {}
        rocks.on_recovery = self._kept.clear

    def get(self, partition: int, key: bytes) -> _T | None:
        """Return the value of a key of an owned partition. Raises `TableBroken`."""
        place = partition, key
        value = self._kept.get(place, _UNKNOWN)
        if value is _UNKNOWN:
            found = self._rocks.get(partition, key)
            value = None if found is None else self._decode(found)
            self._keep(place, value)
        return value

    async def write(self, producer: BatchProducer, changes: Mapping[int, Sequence[tuple[bytes, _T | None]]]) -> None:
        """Write values by partition, None deletes; return when the changelog and the files have them."""
        for partition, items in changes.items():
            for key, _ in items:
                self._kept.pop((partition, key), None)  # should this fail half way, the files say what is true
        encoded = {
            partition: [(key, None if value is None else self._encode(value)) for key, value in items]
            for partition, items in changes.items()
        }
        await self._rocks.write(producer, encoded)
        for partition, items in changes.items():
            for key, value in items:
                self._keep((partition, key), value)

    def _keep(self, place: tuple[int, bytes], value: _T | None) -> None:
        if len(self._kept) >= KEPT:
            self._kept.clear()  # cheaper than to know which was used last, and as good where there are so many users
        self._kept[place] = value
