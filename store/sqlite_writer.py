"""The one writer of a SQLite file in this process: a thread that commits many callers' work at once.

Work that waits is taken together, up to `GROUP` rows, and committed as one transaction; the loop is woken once a
commit. If one work of a group is refused, the group is rolled back and each is done alone, so that only the bad one
fails. A database that is locked or a disk that is full fails the group as a whole: nothing of it was acknowledged.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from schemas.errors import Kind, StoreAway
from store.sqlite_failures import failure, kind
from store.sqlite_migrations import connect

GROUP: Final = 5_000  # rows of one commit
LOCK_WAIT: Final = 5.0  # s that the writer waits for another process

_T = TypeVar("_T")
Work = Callable[[sqlite3.Connection], Any]


class Item(NamedTuple):
    """Work of one caller, how many rows it writes, and who waits for it."""

    work: Work
    rows: int
    waiter: asyncio.Future[Any]


class Outcome(NamedTuple):
    """What an item's waiter is told: a result or an error."""

    item: Item
    result: Any
    error: BaseException | None


class Writer:
    """Runs work on the writing connection. Its queue holds at most what its callers wait for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._connection = connect(path, "rw", LOCK_WAIT)
        self._closed = False
        self._thread = threading.Thread(target=self._main, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], _T], rows: int = 1) -> _T:
        """Do work inside a transaction; return its result once that is durable.

        Raises `StoreError`, and what is a fault of ours.
        """
        if self._closed:
            raise StoreAway("the store is closed")
        waiter: asyncio.Future[_T] = self._loop.create_future()
        self._queue.put(Item(work, rows, waiter))
        return await waiter

    async def close(self) -> None:
        """Finish what waits and close the connection."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _main(self) -> None:
        ending = False
        while not ending:
            group, ending = self._take()
            if group:
                self._loop.call_soon_threadsafe(_tell, self._commit(group))
        self._connection.close()

    def _take(self) -> tuple[list[Item], bool]:
        group: list[Item] = []
        rows = 0
        item = self._queue.get()
        while item is not None:
            group.append(item)
            rows += item.rows
            if rows >= GROUP:
                return group, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _commit(self, group: Sequence[Item]) -> list[Outcome]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [item.work(self._connection) for item in group]
            self._connection.execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - the thread outlives whatever a work raises; its caller is told
            return self._failed(group, exc)
        return [Outcome(item, result, None) for item, result in zip(group, results, strict=True)]

    def _failed(self, group: Sequence[Item], exc: Exception) -> list[Outcome]:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        if len(group) > 1 and kind(exc) in (Kind.REFUSED, Kind.OURS):
            return [outcome for item in group for outcome in self._commit([item])]
        error = failure(self._path, exc)
        if error is not None:
            error.__cause__ = exc
        return [Outcome(item, None, error or exc) for item in group]


def _tell(outcomes: Sequence[Outcome]) -> None:
    for (_, _, waiter), result, error in outcomes:
        if waiter.done():  # its caller was cancelled
            continue
        if error is None:
            waiter.set_result(result)
        else:
            waiter.set_exception(error)
