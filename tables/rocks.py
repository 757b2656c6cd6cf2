"""A Faust table read and written by partition, in batches.

Faust's own `table[key] = value` sends one changelog record each and passes 4,000 a second at most. Here one micro-batch
is one changelog batch a partition, awaited, and then one RocksDB WriteBatch that also carries the offset up to which
the local files agree with the changelog. That offset only moves on where the write continues it: a worker that was
frozen, and writes after its successor, would else claim to know what lies between. What lies behind the offset is read
again at the next assignment (`streams.recovery`).

Files that are found broken are thrown away and made again from the changelog: at once if they cannot be opened or
read at an assignment, else at the next start, since the worker ends then.

This is the only module that reaches into Faust's RocksDB store (`_db_for_partition`, `offset_key`, `partition_path`,
`rocksdb_options`); Faust is pinned, and a test fails when these change.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import rocksdict
from faust.stores.rocksdb import RocksDBOptions

from schemas.errors import DiskError
from streams.producer import BatchProducer, Emit, Written
from tables.failures import TableBroken, failure, is_broken
from tables.memory import WRITES, bound

log = logging.getLogger(__name__)

Change = tuple[bytes, bytes | None]  # key and new value; None deletes
AS_OF: Final = b"__tocsin\0as-of__"  # key of the time at which the offset was noted, s since 1970


def _condemned(folder: Path) -> Path:
    """Return the file that says that the folder beside it is to be thrown away."""
    return folder.with_name(f"{folder.name}.broken")


class _Rebuilding(RocksDBOptions):  # type: ignore[misc]  # Faust has no type information here
    """Opens the files of a partition, empty ones in the place of broken ones; Faust then reads the whole changelog."""

    def as_options(self) -> Any:
        options = super().as_options()
        bound(options, self.bloom_filter_size)
        return options

    def open(self, path: Path, *, read_only: bool = False) -> Any:
        folder = Path(path)
        if _condemned(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _condemned(folder).unlink()
        try:
            return super().open(folder, read_only=read_only)
        except Exception as exc:
            meaning = failure(folder, exc)
            if isinstance(meaning, DiskError):
                raise meaning from exc
            if meaning is None:
                raise
            log.error("%s is broken and is made again from its changelog: %s", folder, exc)  # noqa: TRY400  # no traceback
            shutil.rmtree(folder)
            return super().open(folder, read_only=read_only)


class RocksTable:
    """The bytes of one Faust table; keys and values are what lies in the changelog."""

    def __init__(self, app: Any, name: str, *, partitions: int) -> None:
        self._faust = app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes, default=None)
        self._faust.data.rocksdb_options = _Rebuilding(
            use_rocksdict=True, write_buffer_size=WRITES, max_write_buffer_number=2, block_cache_size=WRITES
        )
        self.on_recovery: Callable[[], object] = lambda: None  # called when values change otherwise than by `write`
        self.changelog: str = f"{app.conf.id}-{name}-changelog"
        app.tables.files[self.changelog] = self

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return the value of a key of an owned partition. Raises `TableBroken`."""
        try:  # often: a context costs as much as what it is about
            value: bytes | None = self._open(partition).get(key)
        except Exception as exc:
            if meaning := self._noticed(partition, exc):
                raise meaning from exc
            raise
        return value

    def scan(self, partition: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return at most `limit` keys after one, in their order, with their values. Raises `TableBroken`."""
        found: list[tuple[bytes, bytes]] = []
        with self._noticing(partition):
            at = self._open(partition).iter()
            at.seek(after + b"\0")
            while at.valid() and len(found) < limit:
                found.append((at.key(), at.value()))
                at.next()
            at.status()
        return found

    def _open(self, partition: int) -> Any:
        return self._faust.data._db_for_partition(partition)  # noqa: SLF001  # see module

    def _folder(self, partition: int) -> Path:
        return Path(self._faust.data.partition_path(partition))

    @contextmanager
    def _noticing(self, partition: int) -> Iterator[None]:
        """Say what is wrong with the files of a partition. Raises `TableBroken` or `DiskError`."""
        try:
            yield
        except Exception as exc:
            if meaning := self._noticed(partition, exc):
                raise meaning from exc
            raise

    def _noticed(self, partition: int, exc: Exception) -> TableBroken | DiskError | None:
        """Return what an exception says of a partition's files, if anything; they are condemned if they are broken."""
        folder = self._folder(partition)
        meaning = failure(folder, exc)
        if isinstance(meaning, TableBroken):
            _condemned(folder).touch()
        return meaning

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
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        with self._noticing(partition):
            files = self._open(partition)
            have = before = int(files.get(self._faust.data.offset_key) or -1)
            for run in written:
                if run.partition == partition and run.offset == have + 1:
                    have += run.count
            if have != before:
                self._note(batch, have)
            files.write(batch)

    def _note(self, batch: Any, offset: int) -> None:
        batch.put(self._faust.data.offset_key, b"%d" % offset)
        batch.put(AS_OF, b"%d" % time.time())

    # -- TableFiles ----------------------------------------------------------------------------------------------------

    def offset(self, partition: int) -> int | None:
        """Return up to which offset the files hold the changelog; None: nothing is known. Throws broken files away."""
        try:
            found = self._open(partition).get(self._faust.data.offset_key)
            return None if found is None else int(found)
        except Exception as exc:
            if not is_broken(exc):
                raise
            self.throw_away(partition, str(exc))
            return None

    def age(self, partition: int) -> float:
        """Return for how long the files have not been known to agree with the changelog, s. Raises `TableBroken`."""
        with self._noticing(partition):
            return time.time() - int(self._open(partition).get(AS_OF) or 0)

    def recover(self, partition: int, records: Iterable[Any], offset: int) -> None:
        """Apply changelog records; from then on the files hold the changelog up to `offset`. Raises `TableBroken`."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        put = batch.put
        for record in records:
            if record.value is None:
                batch.delete(record.key)
            else:
                put(record.key, record.value)
        self._note(batch, offset)
        self.on_recovery()
        with self._noticing(partition):
            self._open(partition).write(batch)

    def throw_away(self, partition: int, why: str) -> None:
        """Begin again with empty files, and say why."""
        folder = self._folder(partition)
        log.error("%s is thrown away and made again from its changelog: %s", folder, why)
        self.on_recovery()
        files = self._faust.data._dbs.pop(partition, None)  # noqa: SLF001  # see module
        if files is not None:
            files.close()
        shutil.rmtree(folder, ignore_errors=True)
