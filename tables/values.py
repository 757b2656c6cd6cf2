"""The values of a table as objects, of which the ones used last are kept as they are.

A worker asks for two values a record, and most users who get one get another soon. What is kept is what the files hold,
for values change in two ways only: by `write`, and by a recovery, after which nothing is kept.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from streams.producer import BatchProducer
from tables.rocks import RocksTable

KEPT: Final = 100_000  # values of a table, in equal parts for its partitions; up to 1 KB each

_T = TypeVar("_T")
UNKNOWN: Final[Any] = object()


class Kept(Generic[_T]):
    """The values of a partition that were used last, at most `most`, by their key.

    When all of them are young they become old. What is used becomes young again, and with each value that does an old
    one goes: to let go of all at once would hold the loop up. Nothing here is looked at for cyclic garbage.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._young: dict[bytes, _T] = {}
        self._old: dict[bytes, _T] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: bytes) -> _T | Any:
        """Return what is kept for a key, else `UNKNOWN`."""
        value = self._young.get(key, UNKNOWN)
        if value is UNKNOWN and self._old:
            value = self._old.pop(key, UNKNOWN)
            if value is not UNKNOWN:
                self.keep(key, value)
        return value

    def keep(self, key: bytes, value: _T) -> None:
        """Keep a value."""
        self._young[key] = value  # and not what may be among the old ones
        if self._old:
            self._old.popitem()
        if len(self._young) >= self._most:
            self._young, self._old = self._old, self._young

    def drop(self, key: bytes) -> None:
        """Forget a value."""
        self._young.pop(key, None)
        self._old.pop(key, None)


class Values(Generic[_T]):
    """Values by key and partition. They are shared: who is given one must not change it."""

    def __init__(self, rocks: RocksTable, encode: Callable[[_T], bytes], decode: Callable[[bytes], _T]) -> None:
        self._rocks = rocks
        self._encode = encode
        self._decode = decode
        self._most = max(1, KEPT // rocks.partitions)
        self._kept: defaultdict[int, Kept[_T | None]] = defaultdict(lambda: Kept(self._most))
        rocks.on_recovery = self._kept.clear

    def get(self, partition: int, key: bytes) -> _T | None:
        """Return the value of a key of an owned partition. Raises `TableBroken`."""
        kept = self._kept[partition]
        value: _T | None = kept.get(key)
        if value is UNKNOWN:
            found = self._rocks.get(partition, key)
            value = None if found is None else self._decode(found)
            kept.keep(key, value)
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
                    self._kept[partition].drop(key)  # it may have failed half way: the files say what is true
            raise
        for partition, items in changes.items():
            keep = self._kept[partition].keep
            for key, value in items:
                keep(key, value)
