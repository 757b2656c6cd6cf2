"""The connections agent: registers sessions under the turnstile, and answers them with what they lack beside it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from agents.cursors import CursorWriter
from agents.deadletters import DeadLetters
from agents.fanout import Fanout
from agents.ownership import Ownership
from agents.publisher import Publisher
from schemas.bus import GAP, Answer, Delivery, LogOpening, Opening, Run
from schemas.errors import BadRecord
from schemas.logs import INBOX_LOGS, log_key
from schemas.records import Acks, Announce, Connected, Disconnected, Sync, SyncRequest, decode_connection
from schemas.rows import Head, Range, Row
from store.port import Store
from streams.connections import (
    Cursors,
    Place,
    Sessions,
    closed,
    merged,
    opened,
    read_mark,
    start_of,
    unread,
    window,
)
from streams.partitions import home_partition
from streams.producer import BatchProducer, Emit
from streams.runner import Batch
from tables.connections import ConnectionTable
from tables.logs import LogTable

WINDOW: Final = 200  # entries of a log that are sent with the opening, unasked
WINDOW_BYTES: Final = 256 * 1024  # bytes of frames in one answer
RANGES: Final = 256  # ranges asked of the store at once
AT_ONCE: Final = 4  # batches of answers in work


class ConnectionsAgent:
    """Handles the batches of the topic `connections`."""

    def __init__(
        self,
        *,
        partitions: int,
        backlog: int,
        store: Store,
        producer: BatchProducer,
        publisher: Publisher,
        ownership: Ownership,
        dead_letters: DeadLetters,
        cursors: CursorWriter,
        logs: LogTable,
        connections: ConnectionTable,
    ) -> None:
        self._partitions = partitions
        self._backlog = backlog
        self._store = store
        self._producer = producer
        self._publisher = publisher
        self._ownership = ownership
        self._dead_letters = dead_letters
        self._cursors = cursors
        self._logs = logs
        self._connections = connections
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

    async def _answer(self, asked: "Asked") -> None:
        """Read what the sessions lack and publish it. Idempotent: clients drop what they have."""
        async with self._at_once:
            heads = await self._heads(asked)
            users = sorted({said.user for _, said in asked.connected})
            stored = await self._store.get_cursors(users) if users else {}
            cursors = {user: merged([*stored[user], *self._cursors.pending(user)]) for user in users}
            epoch = await self._store.epoch()
            plan = Plan(asked, heads, cursors, epoch, self._backlog)
            rows = await self._read(plan.ranges)
            now_ms = round(time.time() * 1000)
            await self._publisher.publish(plan.fanout(rows, now_ms).parts())

    async def _heads(self, asked: "Asked") -> dict[str, Head]:
        """Return the heads of all logs asked for.

        They are read after the sessions were registered, so whatever is appended later reaches them live.
        """
        heads: dict[str, Head] = {}
        missing: list[str] = []
        for partition, user, log in asked.logs():
            key = log_key(log, user)
            state = self._logs.get(partition, key, asked.epochs[partition])
            if state is None:
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


class Asked:
    """What the sessions of a batch want to know."""

    def __init__(self, epochs: dict[int, int]) -> None:
        self.epochs = epochs
        self.connected: list[tuple[int, Connected]] = []
        self.syncs: list[tuple[int, str, SyncRequest]] = []  # partition, gateway, request
        self.announced: list[tuple[int, Announce]] = []

    def add(self, partition: int, record: Any) -> bool:
        """Take note of a record that wants an answer; False: it wants none."""
        match record:
            case Connected():
                self.connected.append((partition, record))
            case Sync(gateway=gateway, syncs=syncs):
                self.syncs += [(partition, gateway, sync) for sync in syncs if sync.log in INBOX_LOGS]
            case Announce():
                self.announced.append((partition, record))
            case _:
                return False
        return True

    def logs(self) -> Iterable[tuple[int, str, str]]:
        """Return (partition, user, log) of every head that is needed, each once."""
        wanted = {(partition, said.user, log) for partition, said in self.connected for log in INBOX_LOGS}
        wanted |= {(partition, sync.user, sync.log) for partition, _, sync in self.syncs}
        wanted |= {
            (partition, said.user, log)
            for partition, record in self.announced
            for said in record.sessions
            for log in said.cursors
            if log in INBOX_LOGS
        }
        return wanted


class Plan:
    """Where every session starts, and which rows that takes."""

    def __init__(
        self, asked: Asked, heads: Mapping[str, Head], cursors: Mapping[str, Cursors], epoch: str, backlog: int
    ) -> None:
        self._asked = asked
        self._heads = heads
        self._cursors = cursors
        self._epoch = epoch
        self._backlog = backlog
        self.ranges = sorted(set(self._ranges()), key=lambda r: (r.log, r.first))

    def _start(self, said: Connected, log: str) -> tuple[int, str]:
        head = self._heads[log_key(log, said.user)].seq
        cursors = self._cursors[said.user]
        return start_of(said, log=log, head=head, epoch=self._epoch, cursors=cursors, limit=self._backlog)

    def _window(self, user: str, log: str, after: int, limit: int) -> Range | None:
        key = log_key(log, user)
        last = min(self._heads[key].seq, after + limit)
        return Range(key, after + 1, last) if last > after else None

    def _read_mark(self, said: Connected, log: str) -> Range | None:
        """Return the row whose count tells how much is unread, if a row is needed for that."""
        key = log_key(log, said.user)
        read = read_mark(self._cursors[said.user], log)
        return Range(key, read, read) if 0 < read < self._heads[key].seq else None

    def _ranges(self) -> Iterable[Range]:
        for _, said in self._asked.connected:
            for log in INBOX_LOGS:
                after, _ = self._start(said, log)
                yield from filter(None, (self._window(said.user, log, after, WINDOW), self._read_mark(said, log)))
        for _, _, sync in self._asked.syncs:
            if found := self._window(sync.user, sync.log, sync.after, sync.limit):
                yield found

    def fanout(self, rows: Mapping[Range, list[Row]], now_ms: int) -> Fanout:
        """Return what goes to the gateways."""
        fanout = Fanout(self._asked.epochs)
        for partition, said in self._asked.connected:
            self._open(fanout, partition, said, rows, now_ms)
        for partition, gateway, sync in self._asked.syncs:
            head = self._heads[log_key(sync.log, sync.user)].seq
            runs = self._runs(sync.user, sync.log, sync.device, sync.after, sync.limit, rows, now_ms)
            answer = Answer(
                session=sync.session, log=sync.log, after=sync.after, head=head, runs=runs, asked=sync.asked
            )
            fanout.answer(gateway, partition, answer)
        for partition, record in self._asked.announced:
            self._remind(fanout, partition, record)
        return fanout

    def _open(
        self, fanout: Fanout, partition: int, said: Connected, rows: Mapping[Range, list[Row]], now_ms: int
    ) -> None:
        logs: list[LogOpening] = []
        runs: list[Run] = []
        for log in INBOX_LOGS:
            after, notice = self._start(said, log)
            head = self._heads[log_key(log, said.user)]
            mark = self._read_mark(said, log)
            found = rows.get(mark, []) if mark else []
            count = unread(head, read_mark(self._cursors[said.user], log), found[0].n if found else None)
            logs.append(LogOpening(log=log, after=after, head=head.seq, unread=count, notice=notice))
            runs += self._runs(said.user, log, said.device, after, WINDOW, rows, now_ms)
        fanout.open(said.gateway, partition, Opening(session=said.session, epoch=self._epoch, logs=logs))
        if runs:
            fanout.deliver(said.gateway, partition, Delivery(user=said.user, sessions=[said.session], runs=runs))

    def _runs(
        self, user: str, log: str, device: str, after: int, limit: int, rows: Mapping[Range, list[Row]], now_ms: int
    ) -> list[Run]:
        wanted = self._window(user, log, after, limit)
        if wanted is None:
            return []
        head = self._heads[wanted.log].seq
        found = rows.get(wanted, [])
        return window(found, log=log, device=device, head=head, now_ms=now_ms, limit_bytes=WINDOW_BYTES)

    def _remind(self, fanout: Fanout, partition: int, record: Announce) -> None:
        """Tell sessions that are behind how far their logs go; they ask for what they lack."""
        for said in record.sessions:
            runs = []
            for log, after in said.cursors.items():
                head = self._heads[log_key(log, said.user)].seq if log in INBOX_LOGS else 0
                if head > after:
                    runs.append(Run(log=log, first=after + 1, last=head, reason=GAP))
            if runs:
                fanout.deliver(record.gateway, partition, Delivery(user=said.user, sessions=[said.session], runs=runs))


def _users(record: msgspec.Struct) -> list[str]:
    match record:
        case Connected(user=user) | Disconnected(user=user):
            return [user]
        case Acks(acks=items) | Sync(syncs=items) | Announce(sessions=items):
            return [item.user for item in items]
    return []
