"""The values of a table as objects, of which the ones used last are kept as they are.

A worker asks for two values a record, and most users who get one get another soon. What is kept is what the files hold,
for values change in two ways only: by `write`, and by a recovery, after which nothing is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from streams.producer import BatchProducer
from tables.rocks import RocksTable

KEPT: Final = 100_000  # values of a table; up to 1 KB each

_T = TypeVar("_T")
UNKNOWN: Final[Any] = object()


class Kept(Generic[_T]):
    """The values used last, at most `KEPT` of them.

    When all of them are young they become old. What is used becomes young again, and with each value that does an old
    one goes: to let go of all at once would hold the loop up. Places are bytes, and not tuples, which a look for cyclic
    garbage would go through.
    """

    def __init__(self) -> None:
        self._young: dict[bytes, _T] = {}
        self._old: dict[bytes, _T] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, place: bytes) -> _T | Any:
        """Return what is kept for a place, else `UNKNOWN`."""
        value = self._young.get(place, UNKNOWN)
        if value is UNKNOWN and self._old:
            value = self._old.pop(place, UNKNOWN)
            if value is not UNKNOWN:
                self.keep(place, value)
        return value

    def keep(self, place: bytes, value: _T) -> None:
        """Keep a value."""
        self._young[place] = value  # and not what may be among the old ones
        if self._old:
            self._old.popitem()
        if len(self._young) >= KEPT:
            self._young, self._old = self._old, self._young

    def drop(self, place: bytes) -> None:
        """Forget a value."""
        self._young.pop(place, None)
        self._old.pop(place, None)

    def clear(self) -> None:
        """Forget all."""
        self._young.clear()
        self._old.clear()


def _place(partition: int, key: bytes) -> bytes:
    return partition.to_bytes(4, "big") + key


class Values(Generic[_T]):
    """Values by key and partition. They are shared: who is given one must not change it."""

    def __init__(self, rocks: RocksTable, encode: Callable[[_T], bytes], decode: Callable[[bytes], _T]) -> None:
        self._rocks = rocks
        self._encode = encode
        self._decode = decode
        self._kept: Kept[_T | None] = Kept()
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
