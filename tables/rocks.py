"""A Faust table read and written by partition, in batches.

Faust's own `table[key] = value` sends one changelog record each and passes 4,000 a second at most. Here one micro-batch
is one changelog batch a partition, awaited, and then one RocksDB WriteBatch that also carries the offset up to which
the local files agree with the changelog: after a kill the files are a prefix of the changelog, never ahead of it.

This is the only module that reaches into Faust's RocksDB store (`_db_for_partition`, `offset_key`); Faust is pinned,
and a test fails when these change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import rocksdict

from streams.producer import BatchProducer, Emit, Written

Change = tuple[bytes, bytes | None]  # key and new value; None deletes


class RocksTable:
    """The bytes of one Faust table; keys and values are what lies in the changelog."""

    def __init__(self, app: Any, name: str, *, partitions: int) -> None:
        self._faust = app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes, default=None)
        self.changelog: str = f"{app.conf.id}-{name}-changelog"

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return the value of a key of an owned partition."""
        value: bytes | None = self._faust.data._db_for_partition(partition).get(key)  # noqa: SLF001  # see module
        return value

    async def write(self, producer: BatchProducer, changes: Mapping[int, Sequence[Change]]) -> None:
        """Write changes by partition: the changelog first, acknowledged, then the local files."""
        runs = {
            (self.changelog, partition): [Emit(self.changelog, key, value) for key, value in items]
            for partition, items in changes.items()
            if items
        }
        written = await producer.write_runs(runs)
        for partition, items in changes.items():
            if items:
                self._apply(partition, items, written)

    def _apply(self, partition: int, items: Sequence[Change], written: Sequence[Written]) -> None:
        store = self._faust.data
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        last = max(run.offset + run.count - 1 for run in written if run.partition == partition)
        batch.put(store.offset_key, str(last).encode())
        store._db_for_partition(partition).write(batch)  # noqa: SLF001  # see module
