"""Cursors on their way to the store: merged by max and written every 2 s, however often devices acknowledge.

Where there are many they are written in slices, with rests: they take half of the store's time at most, so that nobody
who opens a session waits for them. What is merged meanwhile costs nothing more.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from schemas.logs import INBOX_LOGS
from schemas.records import Ack, is_device
from schemas.rows import Cursor
from store.port import Store
from streams.halving import spared

log = logging.getLogger(__name__)

SLICE: Final = 600  # cursors that are written at once: what sessions ask of the store meanwhile comes in between
EVERY: Final = 2.0  # s; a cursor row is written at most once a device, log and this time

_Marks = dict[str, dict[tuple[str, str], Cursor]]  # {user: {(device, log): cursor}}


class CursorWriter:
    """Collects acks; `flushed()` returns when those of now are durable, and only then their records are acked."""

    def __init__(self, store: Store, refused: Callable[[str], object] = lambda _: None) -> None:
        """`refused` counts what is left out, by what it is."""
        self._store = store
        self._refused = refused
        self._dirty: _Marks = {}
        self._dirty_marks = 0
        self._writing: list[_Marks] = []
        self._writing_marks = 0
        self._hurry = asyncio.Event()
        self._flush: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()  # a flush that ends has all before it written: what failed is part of the next one

    def add(self, acks: Iterable[Ack]) -> list[str]:
        """Merge acks; return what is wrong with those that cannot be taken."""
        dirty, wrong = self._dirty, list[str]()
        for ack in acks:
            marks = dirty.get(ack.user)
            if marks is None:
                marks = dirty[ack.user] = {}
            place = (ack.device, ack.log)
            known = marks.get(place)
            if known is None:
                if reason := _refused(ack):
                    wrong.append(reason)
                    if not marks:
                        del dirty[ack.user]
                    continue
                self._dirty_marks += 1
                delivered, read = ack.delivered, ack.read
            elif ack.delivered <= known.delivered and ack.read <= known.read:
                continue
            else:
                delivered, read = max(ack.delivered, known.delivered), max(ack.read, known.read)
            # without a name it moves no cursor that a device starts from; what was read was read by the user
            marks[place] = Cursor(ack.user, ack.log, ack.device, delivered if ack.device else 0, read)
        return wrong

    def pending(self, user: str) -> list[Cursor]:
        """Return what the store may not have yet of a user."""
        return [cursor for group in (*self._writing, self._dirty) for cursor in group.get(user, {}).values()]

    def waiting(self) -> int:
        """Return how many watermarks the store may not have yet."""
        return self._dirty_marks + self._writing_marks

    def hurry(self) -> None:
        """Write at once: the partitions are being given up."""
        self._hurry.set()

    def resume(self) -> None:
        """Take time again: partitions were taken over."""
        self._hurry.clear()

    async def flushed(self) -> None:
        """Return when all that was added so far is durable, or refused.

        What the store refuses is logged, counted and left out: the device is sent again what it has. Raises
        `StoreError`; what was not written stays.
        """
        if self._flush is None:
            self._flush = asyncio.create_task(self._write())
        await asyncio.shield(self._flush)

    async def _write(self) -> None:
        with contextlib.suppress(TimeoutError):  # the usual case: nobody hurries
            await asyncio.wait_for(self._hurry.wait(), EVERY)
        async with self._one:
            self._flush = None  # what is added from here on is for the next flush
            await self._write_all()

    async def _write_all(self) -> None:
        group, marks = self._take()
        self._writing.append(group)
        self._writing_marks += marks
        try:
            cursors = cursors_of(group)
            for at in range(0, len(cursors), SLICE):
                begun = time.perf_counter()
                await spared(cursors[at : at + SLICE], self._store.put_cursors, self._left_out)
                if at + SLICE < len(cursors) and not self._hurry.is_set():
                    await asyncio.sleep(time.perf_counter() - begun)  # half of the store's time is for others
        except BaseException:
            self._restore(group)
            raise
        finally:
            self._writing.remove(group)
            self._writing_marks -= marks

    def _left_out(self, cursor: Cursor, refusal: Exception) -> None:
        log.error("a cursor of user %r in %s is left out: %s", cursor.user, cursor.log, refusal)
        self._refused("cursor")

    def _take(self) -> tuple[_Marks, int]:
        group, self._dirty = self._dirty, {}
        marks, self._dirty_marks = self._dirty_marks, 0
        return group, marks

    def _restore(self, group: _Marks) -> None:
        for user, before in group.items():
            marks = self._dirty.setdefault(user, {})
            for place, cursor in before.items():
                known = marks.get(place)
                self._dirty_marks += known is None
                marks[place] = cursor if known is None else known.merged(cursor)


def _refused(ack: Ack) -> str | None:
    """Return why an ack cannot be taken, if it cannot."""
    if ack.log not in INBOX_LOGS:
        return f"there is no log {ack.log[:64]!r}"
    if ack.device and not is_device(ack.device):
        return f"{ack.device!r} is no device"
    return None


def cursors_of(group: _Marks) -> list[Cursor]:
    """Return the cursors of a group, and for each user and log what any device has."""
    found: list[Cursor] = []
    for marks in group.values():
        whole: dict[str, Cursor] = {}
        for (_, log), cursor in marks.items():
            known = whole.get(log)
            whole[log] = cursor if known is None else known.merged(cursor)
            if cursor.device:
                found.append(cursor)
        found += [Cursor(cursor.user, log, "", cursor.delivered, cursor.read) for log, cursor in whole.items()]
    return found
