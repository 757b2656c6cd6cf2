"""The store in one SQLite file: the embedded default, and the same promises as Cassandra's.

Writes go through one thread (`store.sqlite_writer`). Short reads run on the loop, which costs less than a change of
threads; what may be long, and what found the file locked, runs in a second thread with a connection of its own.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from schemas.errors import Kind, StoreError
from store.devices import packed_starts, unpacked_starts
from store.migration import IDENTITY, refuse_if_behind
from store.port import MOST_CURSORS, RECENT, Append, Cursor, Device, Head, Mark, Range, Rewrite, Row, Standing
from store.sqlite_failures import failure, kind
from store.sqlite_migrations import connect, pending
from store.sqlite_writer import LOCK_WAIT, Writer

SHORT_ROWS: Final = 64  # rows that a read on the loop brings at most, well under 1 ms
SHORT_LOGS: Final = 4  # logs whose heads are read on the loop with all their marks, more with fewer
SHORT_USERS: Final = 16  # users whose cursors are read on the loop

_T = TypeVar("_T")

_CLAIM: Final = """
INSERT INTO owners (stream, part, epoch, owner) VALUES (?, ?, ?, ?)
ON CONFLICT (stream, part) DO UPDATE SET epoch = max(excluded.epoch, owners.epoch + 1), owner = excluded.owner
RETURNING epoch"""

# The later of two writes under one epoch is the same row again.
_PUT_ROW: Final = """
INSERT INTO log_rows (log, seq, epoch, src, n, key, digest, ts, expires, device, frame, skip, tat, expiring, latest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (log, seq) DO UPDATE SET
    epoch = excluded.epoch, src = excluded.src, n = excluded.n, key = excluded.key, digest = excluded.digest,
    ts = excluded.ts, expires = excluded.expires, device = excluded.device, frame = excluded.frame,
    skip = excluded.skip, tat = excluded.tat, expiring = excluded.expiring, latest = excluded.latest
WHERE excluded.epoch >= log_rows.epoch"""

# A higher epoch sets the head, even back; under one epoch it only grows.
_PUT_HEAD: Final = """
INSERT INTO heads (log, epoch, seq, src, n, expiring, latest) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (log) DO UPDATE SET
    epoch = excluded.epoch, seq = excluded.seq, src = excluded.src, n = excluded.n,
    expiring = excluded.expiring, latest = excluded.latest
WHERE (excluded.epoch, excluded.seq) > (heads.epoch, heads.seq)"""

# The same as it is, under a higher epoch.
_REWRITE_ROWS: Final = """
UPDATE log_rows SET epoch = ?2
WHERE log = ?1 AND seq >= ?3 AND seq <= min(?4, (SELECT seq FROM heads WHERE log = ?1)) AND epoch < ?2"""
_REWRITE_HEAD: Final = "UPDATE heads SET epoch = ?2 WHERE log = ?1 AND epoch < ?2"

_HEAD: Final = "SELECT seq, src, n, expiring, latest FROM heads WHERE log = ?"
_MARKS: Final = """
SELECT seq, src, n, key, digest, skip, tat FROM log_rows WHERE log = ? AND seq > ? AND seq <= ? ORDER BY seq DESC"""
_ROWS: Final = """
SELECT seq, src, n, key, digest, ts, expires, device, frame, skip, tat, expiring, latest FROM log_rows
WHERE log = ?1 AND seq >= ?2 AND seq <= min(?3, (SELECT seq FROM heads WHERE log = ?1)) ORDER BY seq"""
_EXPIRIES: Final = """
SELECT expires FROM log_rows
WHERE log = ?1 AND seq >= ?2 AND seq <= min(?3, (SELECT seq FROM heads WHERE log = ?1))
    AND expires > 0 AND device = '' AND skip = '' ORDER BY seq"""

_PUT_CURSOR: Final = """
INSERT INTO cursors (user, log, device, delivered, read) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (user, log, device) DO UPDATE SET
    delivered = max(delivered, excluded.delivered), read = max(read, excluded.read)"""
_CURSORS: Final = """
SELECT user, log, device, delivered, read FROM cursors WHERE user = ? ORDER BY log, device LIMIT ?"""
_STANDING: Final = """
SELECT user, log, device, delivered, read FROM cursors
WHERE user = ? AND log = ? AND device IN ('', ?) ORDER BY device"""
_DEVICE: Final = "SELECT seen, starts FROM devices WHERE user = ? AND device = ?"
_PUT_DEVICE: Final = """
INSERT INTO devices (user, device, seen, starts) VALUES (?, ?, ?, ?)
ON CONFLICT (user, device) DO UPDATE SET seen = excluded.seen, starts = excluded.starts"""
_SEEN: Final = "SELECT device, seen FROM devices WHERE user = ? LIMIT ?"
_FORGET_CURSOR: Final = "DELETE FROM cursors WHERE user = ? AND log = ? AND device = ?"
_FORGET_DEVICE: Final = "DELETE FROM devices WHERE user = ? AND device = ?"

_PUT_INCARNATION: Final = """
INSERT INTO incarnations (topic, incarnation) VALUES (?, ?)
ON CONFLICT (topic) DO UPDATE SET incarnation = max(incarnation, excluded.incarnation)"""


class SqliteStore:
    """The port `Store` on one database file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> None:
        """Open the file. Raises `StoreBehind` if migrations are missing and `StoreError` if it cannot be opened."""
        refuse_if_behind(await asyncio.to_thread(pending, self._path))
        try:
            self._near = connect(self._path, "rw", 0)  # for the loop, which never waits for a lock
            self._far = connect(self._path, "rw", LOCK_WAIT)  # for the reading thread
            self._writer = Writer(self._path)
        except sqlite3.Error as exc:
            raise failure(self._path, exc) or StoreError(f"{self._path} cannot be opened: {exc}") from exc
        self._thread = ThreadPoolExecutor(1, "sqlite-reader")
        self._epoch: str = await self._read(lambda connection: connection.execute(IDENTITY).fetchone()[0], short=False)

    async def close(self) -> None:
        """Finish the writes under way and close the file."""
        await self._writer.close()
        await asyncio.to_thread(self._thread.shutdown)
        self._near.close()
        self._far.close()

    async def epoch(self) -> str:
        """Return the identity of this store: 32 hexadecimal digits."""
        return self._epoch

    async def new_epoch(self) -> str:
        """Give the store another identity and forget all cursors, both or neither; return the identity."""
        self._epoch = await self._writer.run(_renew)
        return self._epoch

    async def claim(self, stream: str, partition: int, owner: str) -> int:
        """Make `owner` the writer of a partition and return its epoch, higher than every one before (µs)."""
        values = (stream, partition, time.time_ns() // 1000, owner)
        return await self._writer.run(lambda connection: int(connection.execute(_CLAIM, values).fetchone()[0]))

    async def heads(self, logs: Sequence[str], recent: int = RECENT) -> dict[str, Head]:
        """Return the end of each log and its last `recent` marks; of a log without rows an empty `Head`."""
        short = len(logs) * max(recent, RECENT // 8) <= SHORT_LOGS * RECENT
        return await self._read(partial(_heads, logs=logs, recent=recent), short=short)

    async def append(self, batches: Sequence[Append]) -> None:
        """Write rows and heads, all or none of this call."""
        await self._writer.run(partial(_append, batches=batches), sum(len(batch.rows) for batch in batches))

    async def rewrite(self, rewrites: Sequence[Rewrite]) -> None:
        """Write rows and heads again as they are, under a higher epoch, all or none of this call."""
        rows = sum(max(0, wanted.last - wanted.first + 1) for wanted in rewrites)
        await self._writer.run(partial(_rewrite, rewrites=rewrites), rows)

    async def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        """Return the rows of each range, by seq; what lies beyond the log's head is not shown."""
        rows = sum(max(0, wanted.last - wanted.first + 1) for wanted in ranges)
        return await self._read(partial(_ranges, ranges=ranges), short=max(rows, len(ranges)) <= SHORT_ROWS)

    async def expiries(self, ranges: Sequence[Range]) -> list[list[int]]:
        """Return when the countable entries of each range expire (ms since 1970), without those that never do."""
        rows = sum(max(0, wanted.last - wanted.first + 1) for wanted in ranges)
        return await self._read(partial(_expiries, ranges=ranges), short=max(rows, len(ranges)) <= SHORT_ROWS)

    async def put_cursors(self, cursors: Sequence[Cursor]) -> None:
        """Merge watermarks by max."""
        values = [(cursor.user, cursor.log, cursor.device, cursor.delivered, cursor.read) for cursor in cursors]
        await self._writer.run(partial(_put_all, sql=_PUT_CURSOR, values=values), len(values))

    async def get_cursors(self, users: Sequence[str]) -> dict[str, list[Cursor]]:
        """Return cursors of each user by log and device, at most `MOST_CURSORS`; an empty list where there are none."""
        return await self._read(partial(_cursors, users=users), short=False)

    async def standings(self, wanted: Sequence[tuple[str, str]], logs: Sequence[str]) -> list[Standing]:
        """Return what is known of each (user, device) in some logs, however many devices the user has."""
        return await self._read(partial(_standings, wanted=wanted, logs=logs), short=len(wanted) <= SHORT_USERS)

    async def put_devices(self, devices: Sequence[Device]) -> None:
        """Note devices in the place of what was noted of them."""
        values = [(one.user, one.device, one.seen, packed_starts(one.starts)) for one in devices]
        await self._writer.run(partial(_put_all, sql=_PUT_DEVICE, values=values), len(values))

    async def seen_devices(self, user: str, limit: int) -> dict[str, int]:
        """Return when devices of a user were last seen, s since 1970, of at most `limit` of them."""
        return await self._read(lambda near: dict(near.execute(_SEEN, (user, limit)).fetchall()), short=False)

    async def forget_devices(self, user: str, devices: Sequence[str], logs: Sequence[str]) -> None:
        """Forget devices of a user, with their cursors in some logs."""
        await self._writer.run(partial(_forget, user=user, devices=devices, logs=logs), len(devices) * (1 + len(logs)))

    async def incarnations(self) -> dict[str, int]:
        """Return how often each topic has been made."""
        sql = "SELECT topic, incarnation FROM incarnations"
        return await self._read(lambda connection: dict(connection.execute(sql).fetchall()), short=True)

    async def put_incarnation(self, topic: str, incarnation: int) -> None:
        """Note that a topic was made again; a lower number than the one noted changes nothing."""
        await self._writer.run(partial(_put_all, sql=_PUT_INCARNATION, values=[(topic, incarnation)]))

    async def _read(self, query: Callable[[sqlite3.Connection], _T], *, short: bool) -> _T:
        try:
            if short:
                try:
                    return query(self._near)
                except sqlite3.Error as exc:
                    if kind(exc) is not Kind.AWAY:  # else it is locked: wait where waiting stops nobody else
                        raise
            return await asyncio.get_running_loop().run_in_executor(self._thread, query, self._far)
        except (sqlite3.Error, OverflowError, ValueError) as exc:
            if error := failure(self._path, exc):
                raise error from exc
            raise


def _renew(connection: sqlite3.Connection) -> str:
    connection.execute("DELETE FROM cursors")
    connection.execute("DELETE FROM devices")
    connection.execute("UPDATE identity SET epoch = lower(hex(randomblob(16))) WHERE id = 1")
    return str(connection.execute(IDENTITY).fetchone()[0])


def _put_all(connection: sqlite3.Connection, sql: str, values: Iterable[tuple[Any, ...]]) -> None:
    connection.executemany(sql, values)


def _append(connection: sqlite3.Connection, batches: Sequence[Append]) -> None:
    connection.executemany(
        _PUT_ROW,
        (
            (
                batch.log, row.seq, batch.epoch, row.src, row.n, row.key, row.digest,
                row.ts, row.expires, row.device, row.frame, row.skip, row.tat, row.expiring, row.latest,
            )
            for batch in batches
            for row in batch.rows
        ),
    )  # fmt: skip
    last = ((batch.log, batch.epoch, batch.rows[-1]) for batch in batches if batch.rows)
    connection.executemany(
        _PUT_HEAD, ((log, epoch, row.seq, row.src, row.n, row.expiring, row.latest) for log, epoch, row in last)
    )


def _rewrite(connection: sqlite3.Connection, rewrites: Sequence[Rewrite]) -> None:
    values = [(wanted.log, wanted.epoch, wanted.first, wanted.last) for wanted in rewrites]
    connection.executemany(_REWRITE_ROWS, values)
    connection.executemany(_REWRITE_HEAD, [(log, epoch) for log, epoch, *_ in values])


def _heads(connection: sqlite3.Connection, logs: Sequence[str], recent: int) -> dict[str, Head]:
    return {log: _head(connection, log, recent) for log in logs}


def _head(connection: sqlite3.Connection, log: str, recent: int) -> Head:
    found = connection.execute(_HEAD, (log,)).fetchone()
    if found is None:
        return Head()
    seq, src, n, expiring, latest = found
    marks = connection.execute(_MARKS, (log, seq - recent, seq)) if recent else ()
    return Head(seq, src, n, tuple([Mark(*mark) for mark in marks]), expiring, latest)


def _ranges(connection: sqlite3.Connection, ranges: Sequence[Range]) -> list[list[Row]]:
    return [
        [Row(*row) for row in connection.execute(_ROWS, (wanted.log, wanted.first, wanted.last))] for wanted in ranges
    ]


def _expiries(connection: sqlite3.Connection, ranges: Sequence[Range]) -> list[list[int]]:
    return [
        [expires for (expires,) in connection.execute(_EXPIRIES, (wanted.log, wanted.first, wanted.last))]
        for wanted in ranges
    ]


def _cursors(connection: sqlite3.Connection, users: Sequence[str]) -> dict[str, list[Cursor]]:
    return {user: [Cursor(*cursor) for cursor in connection.execute(_CURSORS, (user, MOST_CURSORS))] for user in users}


def _standings(
    connection: sqlite3.Connection, wanted: Sequence[tuple[str, str]], logs: Sequence[str]
) -> list[Standing]:
    return [_standing(connection, user, device, logs) for user, device in wanted]


def _standing(connection: sqlite3.Connection, user: str, device: str, logs: Sequence[str]) -> Standing:
    cursors = [Cursor(*one) for log in logs for one in connection.execute(_STANDING, (user, log, device))]
    found = connection.execute(_DEVICE, (user, device)).fetchone()
    return Standing(Device(user, device, found[0], unpacked_starts(found[1])) if found else None, cursors)


def _forget(connection: sqlite3.Connection, user: str, devices: Sequence[str], logs: Sequence[str]) -> None:
    connection.executemany(_FORGET_CURSOR, [(user, log, device) for device in devices for log in logs])
    connection.executemany(_FORGET_DEVICE, [(user, device) for device in devices])
