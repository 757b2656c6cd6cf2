"""Cursors on their way to the store: merged by max and written every 2 s, however often devices acknowledge."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from schemas.records import Ack
from schemas.rows import Cursor
from store.port import Store

EVERY: Final = 2.0  # s; a cursor row is written at most once a device, log and this time

_Marks = dict[str, dict[tuple[str, str], Cursor]]  # {user: {(device, log): cursor}}


class CursorWriter:
    """Collects acks; `flushed()` returns when those of now are durable, and only then their records are acked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._dirty: _Marks = {}
        self._writing: list[_Marks] = []
        self._hurry = asyncio.Event()
        self._flush: asyncio.Task[None] | None = None

    def add(self, acks: Iterable[Ack]) -> None:
        """Merge acks."""
        self._merge([Cursor(ack.user, ack.log, ack.device, ack.delivered, ack.read) for ack in acks])

    def pending(self, user: str) -> list[Cursor]:
        """Return what the store may not have yet of a user."""
        return [cursor for group in (*self._writing, self._dirty) for cursor in group.get(user, {}).values()]

    def waiting(self) -> int:
        """Return how many watermarks the store may not have yet."""
        return sum(len(marks) for group in (*self._writing, self._dirty) for marks in group.values())

    def hurry(self) -> None:
        """Write at once: the partitions are being given up."""
        self._hurry.set()

    def resume(self) -> None:
        """Take time again: partitions were taken over."""
        self._hurry.clear()

    async def flushed(self) -> None:
        """Return when all that was added so far is durable. Raises `StoreError`; what was not written stays."""
        if self._flush is None:
            self._flush = asyncio.create_task(self._write())
        await asyncio.shield(self._flush)

    async def _write(self) -> None:
        with contextlib.suppress(TimeoutError):  # the usual case: nobody hurries
            await asyncio.wait_for(self._hurry.wait(), EVERY)
        group, self._dirty, self._flush = self._dirty, {}, None  # what is added from here on is for the next flush
        self._writing.append(group)
        try:
            await self._store.put_cursors(cursors_of(group))
        except BaseException:
            self._merge(cursors_of(group))
            raise
        finally:
            self._writing.remove(group)

    def _merge(self, cursors: Iterable[Cursor]) -> None:
        for cursor in cursors:
            marks = self._dirty.setdefault(cursor.user, {})
            place = (cursor.device, cursor.log)
            known = marks.get(place)
            marks[place] = cursor if known is None else known.merged(cursor)


def cursors_of(group: _Marks) -> list[Cursor]:
    """Return the cursors of a group."""
    return [cursor for marks in group.values() for cursor in marks.values()]
