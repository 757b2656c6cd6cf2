"""A Faust table read and written by partition, in batches.

Faust's own `table[key] = value` sends one changelog record each and passes 4,000 a second at most. Here one micro-batch
is one changelog batch a partition, awaited, and then one RocksDB WriteBatch that also carries the offset up to which
the local files agree with the changelog: after a kill the files are a prefix of the changelog, never ahead of it.

Files that are found broken are thrown away and made again from the changelog: at once if they cannot be opened, else
at the next start, since the worker ends then.

This is the only module that reaches into Faust's RocksDB store (`_db_for_partition`, `offset_key`, `partition_path`,
`rocksdb_options`); Faust is pinned, and a test fails when these change.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import rocksdict
from faust.stores.rocksdb import RocksDBOptions

from schemas.errors import TocsinError
from streams.producer import BatchProducer, Emit, Written

log = logging.getLogger(__name__)

Change = tuple[bytes, bytes | None]  # key and new value; None deletes
BROKEN: Final = ("Corruption", "IO error: No such file")  # how RocksDB begins to say that files cannot be used


class TableBroken(TocsinError):
    """The files of a table are broken; the next start makes them again from the changelog."""


def _is_broken(exc: Exception) -> bool:
    return str(exc).startswith(BROKEN)


def _condemned(folder: Path) -> Path:
    """Return the file that says that the folder beside it is to be thrown away."""
    return folder.with_name(f"{folder.name}.broken")


class _Rebuilding(RocksDBOptions):  # type: ignore[misc]  # Faust has no type information here
    """Opens the files of a partition, empty ones in the place of broken ones; Faust then reads the whole changelog."""

    def open(self, path: Path, *, read_only: bool = False) -> Any:
        folder = Path(path)
        if _condemned(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _condemned(folder).unlink()
        try:
            return super().open(folder, read_only=read_only)
        except Exception as exc:
            if not _is_broken(exc):
                raise
            log.error("%s is broken and is made again from its changelog: %s", folder, exc)  # noqa: TRY400  # no traceback
            shutil.rmtree(folder)
            return super().open(folder, read_only=read_only)


class RocksTable:
    """The bytes of one Faust table; keys and values are what lies in the changelog."""

    def __init__(self, app: Any, name: str, *, partitions: int) -> None:
        self._faust = app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes, default=None)
        self._faust.data.rocksdb_options = _Rebuilding(use_rocksdict=True)
        self.changelog: str = f"{app.conf.id}-{name}-changelog"

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return the value of a key of an owned partition. Raises `TableBroken`."""
        with self._noticing(partition):
            value: bytes | None = self._faust.data._db_for_partition(partition).get(key)  # noqa: SLF001  # see module
        return value

    @contextmanager
    def _noticing(self, partition: int) -> Iterator[None]:
        """Condemn the files of a partition if they turn out to be broken."""
        try:
            yield
        except Exception as exc:
            if not _is_broken(exc):
                raise
            folder = Path(self._faust.data.partition_path(partition))
            _condemned(folder).touch()
            raise TableBroken(f"{folder} is broken, the next start makes it again: {exc}") from exc

    async def write(self, producer: BatchProducer, changes: Mapping[int, Sequence[Change]]) -> None:
        """Write changes by partition: the changelog first, acknowledged, then the local files. Raises `TableBroken`."""
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
        with self._noticing(partition):
            store._db_for_partition(partition).write(batch)  # noqa: SLF001  # see module
