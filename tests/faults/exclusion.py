"""Lets an experiment that measures have the machine for itself, while others run side by side in several processes."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def _locked(file: Path, operation: int) -> Iterator[None]:
    with file.open("ab") as held:
        fcntl.flock(held, operation)
        yield


@contextlib.contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait for a turn and have it for the time of the context: with others, or `alone`.

    Processes that name the same folder take turns. Who waits to be alone is not overtaken.
    """
    with contextlib.ExitStack() as room:
        with _locked(folder / "gate.lock", fcntl.LOCK_EX):
            room.enter_context(_locked(folder / "room.lock", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield
