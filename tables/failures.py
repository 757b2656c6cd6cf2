"""What is wrong with RocksDB's files, as far as it can be told from what it raises."""

from pathlib import Path
from typing import Final

from schemas.errors import DiskError, TocsinError

BROKEN: Final = ("Corruption", "IO error: No such file")  # how RocksDB begins to say that files cannot be used
FULL: Final = ("IO error: No space left", "IO error: Disk quota exceeded")  # … that the disk is full
DISK: Final = "IO error"  # … that it cannot read or write them, whatever the reason

LOCKED: Final = "/LOCK"  # … of files that another process, or an assignment that ends, has open: Faust waits for those


class TableBroken(TocsinError):
    """The files of a table are broken; the next start makes them again."""


class DiskFailed(DiskError):
    """The files of a table cannot be read or written; nothing is lost, since what was not written is not acked."""

    def __init__(self, folder: Path, reason: Exception) -> None:
        super().__init__(f"the disk under {folder} fails: {reason}; see to it, then start this worker again")


class DiskFull(DiskError):
    """The files of a table cannot grow; nothing is lost, since what was not written is not acked."""

    def __init__(self, folder: Path, reason: Exception) -> None:
        super().__init__(f"no space left on device for {folder}: free some, then start this worker again ({reason})")


def is_broken(exc: Exception) -> bool:
    """Say whether files cannot be used any more."""
    return str(exc).startswith(BROKEN)


def failure(folder: Path, exc: Exception) -> TableBroken | DiskError | None:
    """Return what an exception of RocksDB says of the files in a folder, if it is one of those."""
    if str(exc).startswith(FULL):
        return DiskFull(folder, exc)
    if is_broken(exc):
        return TableBroken(f"{folder} is broken, the next start makes it again: {exc}")
    if str(exc).startswith(DISK) and LOCKED not in str(exc):
        return DiskFailed(folder, exc)
    return None
