"""Files for what a worker can make again but should not have to keep in memory: they live as long as it needs them.

They have no log of their own, and what an earlier process left is thrown away: nobody reads it. A write that fails
ends the worker, since what the files then say may be older than what they were told.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import rocksdict

from tables.failures import failure
from tables.memory import WRITES, bound

BLOOM_BITS: Final = 10  # a key; one in a hundred that is not there is looked for
UNLOGGED: Final = rocksdict.WriteOptions()
UNLOGGED.disable_wal = True


class Scratch:
    """Bytes by key in a folder of its own, which is there while something is in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: Any = None

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key. Raises `TableBroken`."""
        if self._files is None:
            return None
        with self._noticing():
            value: bytes | None = self._files.get(key)
        return value

    def write(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Write values. Raises `TableBroken` or `DiskFull`."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            batch.put(key, value)
        with self._noticing():
            if self._files is None:
                self._files = self._opened()
            self._files.write(batch, UNLOGGED)

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            if meaning := failure(self._folder, exc):
                raise meaning from exc
            raise

    def _opened(self) -> Any:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(WRITES)
        options.set_max_write_buffer_number(2)
        bound(options, BLOOM_BITS)
        self.clear()
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        return rocksdict.Rdict(str(self._folder), options)

    def clear(self) -> None:
        """Throw everything away, also what an earlier process left. Never fails: what stays is in nobody's way."""
        self._files = None  # and not `close`, which raises where what is in memory cannot be written
        shutil.rmtree(self._folder, ignore_errors=True)
