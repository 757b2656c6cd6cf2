"""The data folder of a worker, which one process uses at a time: two would write the same files."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import TocsinError


class FolderInUse(TocsinError):
    """Another worker uses the data folder."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Use a folder alone until the context or the process ends; it is made where it is not there.

    Raises `FolderInUse`, which names the process that has it, or `TocsinError` if the folder cannot be used at all.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+")
    except OSError as exc:
        raise TocsinError(f"the data folder {folder} cannot be used (TOCSIN_DATA): {exc.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise FolderInUse(
                f"{folder} is in use by another worker, process {file.read().strip() or 'unknown'}; "
                "give each worker a TOCSIN_INSTANCE or a TOCSIN_DATA of its own"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
