"""A file that one process at a time holds; whoever comes second is told the process id of the first."""

import fcntl
import os
from pathlib import Path
from typing import TextIO

from schemas.errors import ServerFailed


class Held(ServerFailed):
    """Another process holds it."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"another process holds it (pid {pid})")
        self.pid = pid


def hold(path: Path) -> TextIO:
    """Return the open file, which is held until it is closed or the process ends, whatever ends it.

    Raises `Held`, or `OSError` if the file cannot be written.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        said = file.read().strip()
        file.close()
        raise Held(said or "unknown") from exc
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
