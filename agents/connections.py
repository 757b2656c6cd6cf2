"""The connections agent: registers sessions under the turnstile, and answers them with what they lack beside it."""

import asyncio
import time
from collections import defaultdict
from typing import Any, Final

import msgspec

from agents.answers import Asked, Pieces, Plan
from agents.cursors import CursorWriter
from agents.parts import Parts
from schemas.errors import BadRecord
from schemas.logs import log_key
from schemas.records import Acks, Announce, Connected, Disconnected, Sync, decode_connection
from schemas.rows import Head, Range, Row
from streams.connections import Place, Sessions, closed, merged, opened
from streams.partitions import home_partition
from streams.producer import Emit
from streams.runner import Batch
from streams.turnstile import Beside
from tables.connections import ConnectionTable

RANGES: Final = 256  # ranges asked of the store at once
AT_ONCE: Final = 4  # batches of answers in work


class ConnectionsAgent:
    """Handles the batches of the topic `connections`."""

    def __init__(self, parts: Parts, cursors: CursorWriter, beside: Beside, *, partitions: int, backlog: int) -> None:
        self._partitions = partitions
        self._backlog = backlog
        self._cursors = cursors
        self._store = parts.store
        self._producer = parts.producer
        self._publisher = parts.publisher
        self._ownership = parts.ownership
        self._dead_letters = parts.dead_letters
        self._statuses = parts.statuses
        self._logs = parts.logs
        self._connections = parts.connections
        self._beside = beside
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def handle(self, batch: Batch) -> None:
        """Perform the effects of a batch: register, mark; answers and cursors follow beside the turnstile."""
        epochs = dict(await self._ownership.held())
        changes = _Changes(self._connections)
        asked = Asked(epochs)
        answered: list[Any] = []
        acked: list[Any] = []
        letters: list[Emit] = []
        for message in batch.messages:
            try:
                record = decode_connection(message.value)
                self._check_home(message.partition, record)
            except BadRecord as exc:
                letters.append(self._dead_letters.letter(message, exc.code, str(exc)))
                continue
            self._register(message.partition, record, changes)
            if isinstance(record, Acks):
                self._cursors.add(record.acks)
                acked.append(message)
            elif asked.add(message.partition, record):
                answered.append(message)
        await self._producer.emit(letters)
        await self._connections.write(self._producer, changes.by_partition())
        if answered:
            batch.hold(answered, lambda: self._answer(asked))
        if acked:
            batch.hold(acked, self._cursors.flushed)

    def _check_home(self, partition: int, record: Any) -> None:
        """Refuse what a gateway, which computes partitions itself, put in the wrong one, rather than lose order."""
        for user in _users(record):
            if home_partition(user.encode(), self._partitions) != partition:
                raise BadRecord("key_mismatch", f"user {user!r} does not belong to partition {partition}")

    def _register(self, partition: int, record: Any, changes: "_Changes") -> None:
        self._publisher.heard_of(record.gateway)
        dead = self._publisher.dead
        match record:
            case Connected(user=user, session=session, gateway=gateway, device=device):
                changes.set(
                    partition, user, opened(changes.get(partition, user), session, Place(gateway, device), dead)
                )
            case Disconnected(user=user, session=session):
                changes.set(partition, user, closed(changes.get(partition, user), session))
            case Sync(gateway=gateway, syncs=syncs):
                for asked in syncs:  # a gateway that was taken for dead comes back with sessions that were dropped
                    known = changes.get(partition, asked.user)
                    if asked.session not in known:
                        place = Place(gateway, asked.device)
                        changes.set(partition, asked.user, opened(known, asked.session, place, dead))
            case Announce(gateway=gateway, sessions=sessions):
                for said in sessions:
                    before = changes.get(partition, said.user)
                    changes.set(partition, said.user, opened(before, said.session, Place(gateway, said.device), dead))

    async def _answer(self, asked: Asked) -> None:
        """Read what the sessions lack and publish it, piece by piece. Idempotent: clients drop what they have.

        While Redis takes nothing the rows are not even read: sessions ask again until they are answered.
        """
        async with self._at_once:
            if not await self._publisher.reaches():
                return
            heads = await self._heads(asked)
            users = sorted({said.user for _, said in asked.connected})
            stored = await self._store.get_cursors(users) if users else {}
            cursors = {user: merged([*stored[user], *self._cursors.pending(user)]) for user in users}
            epoch = await self._store.epoch()
            asked.sort()
            pieces = Pieces(asked, lambda some: Plan(some, heads, cursors, epoch, self._backlog))
            while plan := pieces.next():
                async with self._beside.turn():
                    pieces.took(await self._carry_out(plan))

    async def _carry_out(self, plan: Plan) -> int:
        """Send what was planned; return how many bytes of rows it took."""
        rows = await self._read(plan.ranges)
        now_ms = round(time.time() * 1000)
        parts = plan.fanout(rows, now_ms).parts()
        await self._producer.emit(
            [
                status
                for user, log, device, found in plan.sent
                for status in self._statuses.merged(user, log, found, [device], now_ms)
            ]
        )
        await self._publisher.publish(parts)
        return sum(len(row.frame) for found in rows.values() for row in found)

    async def _heads(self, asked: Asked) -> dict[str, Head]:
        """Return the heads of all logs asked for.

        They are read after the sessions were registered, so whatever is appended later reaches them live. Where a
        device has more than the table says, this worker may have been replaced without knowing it: the store is asked.
        """
        claimed = asked.claimed()
        heads: dict[str, Head] = {}
        missing: list[str] = []
        for partition, user, log in asked.logs():
            key = log_key(log, user)
            state = self._logs.get(key, asked.epochs[partition])
            if state is None or state.seq < claimed.get(key, 0):
                missing.append(key)
            else:
                heads[key] = Head(seq=state.seq, src=state.src, n=state.n)
        if missing:
            heads |= await self._store.heads(missing, recent=0)
        return heads

    async def _read(self, ranges: list[Range]) -> dict[Range, list[Row]]:
        rows: dict[Range, list[Row]] = {}
        for start in range(0, len(ranges), RANGES):
            part = ranges[start : start + RANGES]
            rows |= dict(zip(part, await self._store.read(part), strict=True))
        return rows


class _Changes:
    """Sessions as they become while a batch is registered; what did not change is not written."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table
        self._before: dict[tuple[int, str], Sessions] = {}
        self._now: dict[tuple[int, str], Sessions] = {}

    def get(self, partition: int, user: str) -> Sessions:
        if (partition, user) not in self._now:
            self._before[partition, user] = self._now[partition, user] = self._table.get(partition, user)
        return self._now[partition, user]

    def set(self, partition: int, user: str, sessions: Sessions) -> None:
        self._now[partition, user] = sessions

    def by_partition(self) -> dict[int, dict[str, Sessions]]:
        result: defaultdict[int, dict[str, Sessions]] = defaultdict(dict)
        for (partition, user), sessions in self._now.items():
            if sessions != self._before[partition, user]:
                result[partition][user] = sessions
        return result


def _users(record: msgspec.Struct) -> list[str]:
    match record:
        case Connected(user=user) | Disconnected(user=user):
            return [user]
        case Sync(syncs=items) | Announce(sessions=items):
            return [item.user for item in items]
    return []  # a cursor is merged into the store from wherever it comes
