"""The store on Cassandra: the same promises as SQLite's, for many machines.

What a partition's owner writes carries its epoch as write timestamp, so a write under a lower epoch loses, whenever it
arrives; cursors carry their value, so they only grow. Neither costs a condition. How a log lies in buckets is said in
`store.buckets`, how rows travel in `store.batches`, and cursors in
`store.cursors`.
"""

import asyncio
import struct
import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import ErrorMessage

from schemas.errors import StoreAway, StoreRefused
from store.batches import PUT_LAST_ROW, PUT_ROW, Group, batch, new_buckets, rounds
from store.buckets import End, end_of, is_full, is_short, last_end, pieces, window
from store.cassandra_migrations import pending
from store.cluster import Address, connect
from store.cursors import PUT_DELIVERED, PUT_READ, cursor_batches
from store.devices import packed_starts, unpacked_starts
from store.migration import IDENTITY, refuse_if_behind
from store.port import MOST_CURSORS, RECENT, Append, Cursor, Device, Head, Mark, Range, Rewrite, Row, Standing
from store.requests import Request, Requests, Rows
from store.rewriting import PUT_HEAD, Seen, heads_again, places, rows_again

CLAIMS: Final = 20  # attempts of a claim against others that claim at the same time
WITNESS: Final = "tocsin/witness"  # a log and a user that nobody has; what is written of it says nothing
LOOKS: Final = 3  # at rows that a former owner writes meanwhile
MISFIT: Final = "a value does not fit its column: {}"

_STATEMENTS: Final = {
    "put_row": PUT_ROW,
    "put_last_row": PUT_LAST_ROW,
    "put_bucket": "UPDATE log_rows USING TIMESTAMP ? SET last_bucket = ? WHERE log = ? AND bucket = 0",
    "put_head": PUT_HEAD,
    "end": """
        SELECT last_bucket, WRITETIME(head_seq), head_seq, head_src, head_n, head_expiring, head_latest
        FROM log_rows WHERE log = ? AND bucket = ? LIMIT 1""",
    "marks": """
        SELECT seq, src, n, key, digest, skip, tat
        FROM log_rows WHERE log = ? AND bucket = ? AND seq >= ? AND seq <= ? ORDER BY seq ASC""",
    "rows": """
        SELECT head_seq, seq, src, n, key, digest, ts, expires, device, frame, skip, tat, expiring, latest
        FROM log_rows WHERE log = ? AND bucket = ? AND seq >= ? AND seq <= ? ORDER BY seq ASC""",
    "expiries": """
        SELECT head_seq, seq, expires, device, skip
        FROM log_rows WHERE log = ? AND bucket = ? AND seq >= ? AND seq <= ? ORDER BY seq ASC""",
    "claim": "UPDATE owners SET epoch = ?, owner = ? WHERE stream = ? AND part = ? IF epoch < ?",
    "first_claim": "INSERT INTO owners (stream, part, epoch, owner) VALUES (?, ?, ?, ?) IF NOT EXISTS",
    "put_delivered": PUT_DELIVERED,
    "put_read": PUT_READ,
    "cursors": "SELECT user, log, device, delivered, read FROM cursors WHERE user = ? LIMIT ?",
    "standing": """
        SELECT user, log, device, delivered, read FROM cursors WHERE user = ? AND log IN ? AND device IN ('', ?)""",
    "device": "SELECT seen, starts FROM devices WHERE user = ? AND device = ?",
    "put_device": "INSERT INTO devices (user, device, seen, starts) VALUES (?, ?, ?, ?)",
    "seen": "SELECT device, seen FROM devices WHERE user = ? LIMIT ?",
    "device_marks": "SELECT log, delivered, read FROM cursors WHERE user = ? AND log IN ? AND device = ?",
    "forget_mark": "DELETE FROM cursors USING TIMESTAMP ? WHERE user = ? AND log = ? AND device = ?",
    "forget_device": "DELETE FROM devices WHERE user = ? AND device = ?",
    "forget_cursors": "TRUNCATE cursors",
    "forget_devices": "TRUNCATE devices",
    "new_identity": "UPDATE identity SET epoch = ? WHERE id = 1 IF EXISTS",  # as it was made: by LWT
    "incarnations": "SELECT topic, incarnation FROM incarnations",
    "put_incarnation": "INSERT INTO incarnations (topic, incarnation) VALUES (?, ?) USING TIMESTAMP ?",
}


class CassandraStore:
    """The port `Store` on one keyspace."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def open(self) -> None:
        """Connect. Raises `StoreBehind` if migrations are missing and `StoreError` if no node can be reached."""
        self._session = await asyncio.to_thread(connect, self._address)
        try:
            self._statements, self._epoch = await asyncio.to_thread(_prepare, self._session, self._address)
        except BaseException:
            await asyncio.to_thread(self._session.cluster.shutdown)
            raise
        self._requests = Requests(self._session)
        self._requests.witness = self._witness

    async def close(self) -> None:
        """End all connections; what was acknowledged stays."""
        self._requests.close()
        await asyncio.to_thread(self._session.cluster.shutdown)

    async def epoch(self) -> str:
        """Return the identity of this store: 32 hexadecimal digits."""
        return self._epoch

    async def new_epoch(self) -> str:
        """Forget all cursors, which needs every node, then give the store another identity; return that."""
        epoch = uuid.uuid4()
        await self._ask("forget_cursors", [()])
        await self._ask("forget_devices", [()])
        await self._ask("new_identity", [(epoch,)])
        self._epoch = epoch.hex
        return self._epoch

    async def claim(self, stream: str, partition: int, owner: str) -> int:
        """Make `owner` the writer of a partition and return its epoch, higher than every one before (µs)."""
        epoch = time.time_ns() // 1000
        for _ in range(CLAIMS):
            done, *before = (await self._ask("claim", [(epoch, owner, stream, partition, epoch)]))[0][0]
            if not done and (not before or before[0] is None):  # nobody has claimed it yet
                done, *before = (await self._ask("first_claim", [(stream, partition, epoch, owner)]))[0][0]
                before = before[2:3]  # of stream, part, epoch, owner
            if done:
                return epoch
            epoch = max(epoch, before[0]) + 1
        raise StoreAway(f"{owner} could not claim {stream}/{partition}: {CLAIMS} others claimed it at the same time")

    async def heads(self, logs: Sequence[str], recent: int = RECENT) -> dict[str, Head]:
        """Return the end of each log and its last `recent` marks; of a log without rows an empty `Head`."""
        ends = await self._ends(logs)
        ranges = [Range(log, end.seq - recent + 1, end.seq) for log, end in ends.items() if end]
        asked = [(wanted.log, *piece) for wanted in ranges for piece in pieces(wanted)]
        marks: dict[str, list[Mark]] = {wanted.log: [] for wanted in ranges}
        for (log, *_), found in zip(asked, await self._ask("marks", asked), strict=True):
            marks[log].extend([Mark(*(*before, skip or "", tat or 0)) for *before, skip, tat in found])
        return {
            log: Head(end.seq, end.src, end.n, tuple(reversed(marks[log])), end.expiring, end.latest) if end else Head()
            for log, end in ends.items()
        }

    async def append(self, batches: Sequence[Append]) -> None:
        """Write rows and heads. Of a call that fails, some logs may have been written, each without a hole."""
        written = [append for append in batches if append.rows]
        try:
            planned = rounds(written, self._replicas())
        except (struct.error, ValueError) as exc:
            raise StoreRefused(MISFIT.format(exc)) from exc
        buckets = [(bucket, bucket, log) for log, bucket in new_buckets(written)]
        await self._ask("put_bucket", buckets)
        for groups in planned:
            await self._requests.run([self._batch(group) for group in groups])

    async def rewrite(self, rewrites: Sequence[Rewrite]) -> None:
        """Write rows and heads again as they are, under a higher epoch; the heads of all buckets from the first row."""
        left = rewrites
        for look in range(1, LOOKS + 1):
            seen = await self._seen(left)
            whole = [one for one in seen if look == LOOKS or not one.is_torn()]
            rows = [row for one in whole for row in rows_again(one)]
            await self._requests.run([Request(self._bound("put_row", row).statement, size) for row, size in rows])
            await self._ask("put_head", [head for one in whole for head in heads_again(one)])
            if len(whole) == len(seen):
                return
            left = [one.wanted for one in seen if one.is_torn()]

    async def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        """Return the rows of each range, by seq; what lies beyond the log's head is not shown."""
        rows: list[list[Row]] = [[] for _ in ranges]
        for number, part in await self._pieces("rows", ranges):
            rows[number].extend(_shown(part))
        return [_dense(part) for part in rows]

    async def expiries(self, ranges: Sequence[Range]) -> list[list[int]]:
        """Return when the countable entries of each range expire (ms since 1970), without those that never do."""
        found: list[list[int]] = [[] for _ in ranges]
        for number, part in await self._pieces("expiries", ranges):
            found[number].extend(
                expires
                for head, seq, expires, device, skip in part
                if head is not None and seq <= head and expires and not device and not skip
            )
        return found

    async def put_cursors(self, cursors: Sequence[Cursor]) -> None:
        """Merge watermarks by max."""
        ids = (self._statements[name].query_id for name in ("put_delivered", "put_read"))
        try:
            requests = [Request(*written) for written in cursor_batches(cursors, *ids)]
        except (struct.error, ValueError) as exc:
            raise StoreRefused(MISFIT.format(exc)) from exc
        await self._requests.run(requests)

    async def get_cursors(self, users: Sequence[str]) -> dict[str, list[Cursor]]:
        """Return cursors of each user by log and device, at most `MOST_CURSORS`; an empty list where there are none."""
        found = await self._ask("cursors", [(user, MOST_CURSORS) for user in users])
        return {user: _cursors(rows) for user, rows in zip(users, found, strict=True)}

    async def standings(self, wanted: Sequence[tuple[str, str]], logs: Sequence[str]) -> list[Standing]:
        """Return what is known of each (user, device) in some logs, however many devices the user has."""
        asked = [self._bound("standing", (user, list(logs), device)) for user, device in wanted]
        found = await self._requests.run(asked + [self._bound("device", place) for place in wanted])
        devices = [
            Device(*place, rows[0][0] or 0, unpacked_starts(rows[0][1])) if rows else None
            for place, rows in zip(wanted, found[len(wanted) :], strict=True)
        ]
        return [Standing(device, _cursors(rows)) for device, rows in zip(devices, found, strict=False)]

    async def put_devices(self, devices: Sequence[Device]) -> None:
        """Note devices in the place of what was noted of them."""
        await self._ask("put_device", [(one.user, one.device, one.seen, packed_starts(one.starts)) for one in devices])

    async def seen_devices(self, user: str, limit: int) -> dict[str, int]:
        """Return when devices of a user were last seen, s since 1970, of at most `limit` of them."""
        return {device: seen or 0 for device, seen in (await self._ask("seen", [(user, limit)]))[0]}

    async def forget_devices(self, user: str, devices: Sequence[str], logs: Sequence[str]) -> None:
        """Forget devices of a user, with their cursors in some logs, each at its value: a higher one stays."""
        found = await self._ask("device_marks", [(user, list(logs), device) for device in devices])
        marks = [
            (max(delivered or 0, read or 0), user, log, device)
            for device, rows in zip(devices, found, strict=True)
            for log, delivered, read in rows
        ]
        await self._ask("forget_mark", marks)
        await self._ask("forget_device", [(user, device) for device in devices])

    async def incarnations(self) -> dict[str, int]:
        """Return how often each topic has been made."""
        return dict((await self._ask("incarnations", [()]))[0])

    async def put_incarnation(self, topic: str, incarnation: int) -> None:
        """Note that a topic was made again; a lower number than the one noted changes nothing."""
        await self._ask("put_incarnation", [(topic, incarnation, incarnation)])

    async def _seen(self, rewrites: Sequence[Rewrite]) -> list[Seen]:
        """Return what there is of rows and heads that are to be written again."""
        ends = await self._ends([wanted.log for wanted in rewrites])
        rows = await self.read([Range(wanted.log, wanted.first, wanted.last) for wanted in rewrites])
        seen = [Seen(wanted, ends[wanted.log], found) for wanted, found in zip(rewrites, rows, strict=True)]
        asked = [(one, bucket) for one in seen for bucket in places(one)]
        found = await self._ask("end", [(one.wanted.log, bucket) for one, bucket in asked])
        for (one, bucket), values in zip(asked, found, strict=True):
            one.heads[bucket] = end_of(values[0][1:]) if values else None
        return seen

    async def _ask(self, name: str, values: Iterable[tuple[Any, ...]]) -> list[Rows]:
        return await self._requests.run([self._bound(name, row) for row in values])

    async def _pieces(self, name: str, ranges: Sequence[Range]) -> list[tuple[int, Rows]]:
        """Ask for ranges piece by piece; return what there is with the number of its range, in order."""
        # bucket 0 says itself where it ends; a later one may be a former owner's; a long range is cut at the head
        ends = await self._ends(list({wanted.log for wanted in ranges if not is_short(wanted)}))
        asked = [(number, piece) for number, wanted in enumerate(ranges) for piece in pieces(_clipped(wanted, ends))]
        found = await self._ask(name, [(ranges[number].log, *piece) for number, piece in asked])
        return [(number, part) for (number, _), part in zip(asked, found, strict=True)]

    async def _ends(self, logs: Sequence[str]) -> dict[str, End | None]:
        """Return the head of each log, None where it has no rows."""
        ends: dict[str, End | None] = {}
        open_ends: dict[str, int] = {}  # logs whose head may lie in a later bucket than 0, and where to look
        for log, rows in zip(logs, await self._ask("end", [(log, 0) for log in logs]), strict=True):
            last, *values = rows[0] if rows else [None] * 7
            ends[log] = end = end_of(values)
            if last or is_full(0, end):
                open_ends[log] = last or 0
        while open_ends:
            asked = [(log, bucket) for log, last in open_ends.items() for bucket in window(last)]
            seen: dict[str, dict[int, End | None]] = {log: {} for log in open_ends}
            for (log, bucket), rows in zip(asked, await self._ask("end", asked), strict=True):
                seen[log][bucket] = end_of(rows[0][1:]) if rows else None
            ends.update({log: last_end(found) for log, found in seen.items()})
            open_ends = {log: last - 2 for log, last in open_ends.items() if ends[log] is None and last > 1}
        return ends

    def _replicas(self) -> Callable[[bytes], Hashable]:
        """Return what names the first replica of a routing key; with one node they are all alike."""
        metadata = self._session.cluster.metadata
        if len(metadata.all_hosts()) == 1:
            return lambda _: None
        return lambda key: next(iter(metadata.get_replicas(self._address.keyspace, key)), None)

    def _batch(self, group: Group) -> Request:
        row, last_row = self._statements["put_row"].query_id, self._statements["put_last_row"].query_id
        return Request(batch(group, row, last_row), group.size)

    def _witness(self) -> list[Request]:
        """Return small requests to each table; they change nothing that anybody reads."""
        asked = [("put_bucket", (1, 0, WITNESS)), ("end", (WITNESS, 0)), ("cursors", (WITNESS,))]
        return [self._bound(name, values) for name, values in asked]

    def _bound(self, name: str, values: tuple[Any, ...]) -> Request:
        try:
            return Request(self._statements[name].bind(values))
        except (struct.error, TypeError, ValueError) as exc:
            raise StoreRefused(MISFIT.format(exc)) from exc


def _prepare(session: Any, address: Address) -> tuple[dict[str, Any], str]:
    """Return the prepared statements by name, and the store's identity. Blocks."""
    try:
        refuse_if_behind(pending(session, address.keyspace))
        session.set_keyspace(address.keyspace)
        statements = {name: session.prepare(query) for name, query in _STATEMENTS.items()}
        return statements, session.execute(IDENTITY).one()[0].hex
    except (DriverException, ErrorMessage, NoHostAvailable) as exc:
        raise StoreAway(f"{address.keyspace} on {address.names()} cannot be opened: {exc}") from exc


def _clipped(wanted: Range, ends: Mapping[str, End | None]) -> Range:
    """Return a range up to the head of its log, if that was asked for."""
    if wanted.log not in ends:
        return wanted
    end = ends[wanted.log]
    return Range(wanted.log, wanted.first, min(wanted.last, end.seq) if end else 0)


def _shown(found: Rows) -> list[Row]:
    """Return the rows of a piece that lie at or below the head of its bucket."""
    return [_row(values) for head, *values in found if head is not None and values[0] <= head]


def _row(values: Sequence[Any]) -> Row:
    """Return a row; columns are filled that are null in rows older than migration 0002 or 0004."""
    *before, skip, tat, expiring, latest = values
    return Row(*(*before, skip or "", tat or 0, expiring or 0, latest or 0))


def _dense(rows: list[Row]) -> list[Row]:
    """Return rows up to the first hole: the queries of one range may have seen the log at different times."""
    for number, row in enumerate(rows):
        if row.seq != rows[0].seq + number:
            return rows[:number]
    return rows


def _cursors(rows: Rows) -> list[Cursor]:
    return [Cursor(name, log, device, delivered or 0, read or 0) for name, log, device, delivered, read in rows]
