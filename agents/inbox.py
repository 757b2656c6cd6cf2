"""The inbox agent of a lane: append each notification to its user's log, then publish it to the user's sessions."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from agents.deadletters import DeadLetters
from agents.fanout import Fanout
from agents.ownership import Ownership
from agents.publisher import Publisher
from schemas.bus import GAP, Delivery, Run
from schemas.errors import BadRecord
from schemas.logs import inbox_log, log_key
from schemas.records import Status, encode
from schemas.rows import Append, Row
from store.port import Store
from streams.connections import Sessions, run_of
from streams.inbox import (
    POSITION_HEADER,
    Appended,
    Conflict,
    Expired,
    Incoming,
    Known,
    LogState,
    Repeat,
    Verdict,
    anchored,
    fold,
    incoming,
    needs_rows,
)
from streams.partitions import home_partition
from streams.producer import BatchProducer, Emit
from streams.runner import Batch
from tables.connections import ConnectionTable
from tables.logs import LogTable
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)


class Lane(msgspec.Struct, frozen=True):
    """A lane's topic: its name in Kafka, its number and incarnation, and how many partitions it has."""

    name: str
    topic: str
    number: int
    incarnation: int
    partitions: int
    statuses: str  # the topic of statuses


class InboxAgent:
    """Handles the batches of one lane."""

    def __init__(
        self,
        lane: Lane,
        *,
        store: Store,
        producer: BatchProducer,
        publisher: Publisher,
        ownership: Ownership,
        dead_letters: DeadLetters,
        logs: LogTable,
        connections: ConnectionTable,
        metrics: WorkerMetrics,
    ) -> None:
        self._metrics = metrics
        self._lane = lane
        self._log = inbox_log(lane.name)
        self._store = store
        self._producer = producer
        self._publisher = publisher
        self._ownership = ownership
        self._dead_letters = dead_letters
        self._logs = logs
        self._connections = connections

    async def handle(self, batch: Batch) -> None:
        """Perform the effects of a batch: append, publish and emit, mark."""
        epochs = await self._ownership.held()
        work = _Work()
        for message in batch.messages:
            self._sort(message, work)
        states = await self._judge(work, epochs)
        await self._store.append(
            [
                Append(log=log_key(self._log, user), epoch=epochs[partition], rows=rows)
                for (partition, user), rows in work.rows.items()
            ]
        )
        work.emits += await self._unknown_devices(work)
        await asyncio.gather(  # in any order: none of them is redone from the marks, and the ack waits for all
            self._publisher.publish(self._fanout(work, epochs).parts()),
            self._producer.emit(work.emits),
            self._logs.write(self._producer, states),
        )

    def _sort(self, message: Any, work: "_Work") -> None:
        """Decode a record, or send it on to its home partition or to the dead letters."""
        lane = self._lane
        headers = dict(message.headers or ())
        moved = headers.get(POSITION_HEADER)
        place = (lane.number, lane.incarnation, message.partition, message.offset)
        try:
            record = incoming(
                key=message.key,
                value=message.value,
                ts=round(message.timestamp * 1000),
                place=place,
                moved_id=moved.decode("utf-8", "replace") if moved else None,
            )
        except BadRecord as exc:
            work.emits.append(self._dead_letters.letter(message, exc.code, str(exc)))
            return
        except Exception as exc:  # noqa: BLE001  # one record must not stop its partition
            work.emits.append(self._dead_letters.letter(message, "rule_failed", f"{type(exc).__name__}: {exc}"))
            return
        home = home_partition(message.key, lane.partitions)
        if home != message.partition:
            work.emits.append(self._moved(message, record, home))
            return
        work.records[message.partition, record.notification.user].append((message, record))

    def _moved(self, message: Any, record: Incoming, home: int) -> Emit:
        """Return the record for its home partition, under the id that it has here."""
        self._metrics.moved.add(self._lane.topic)
        kept = tuple((name, value) for name, value in message.headers or () if name != POSITION_HEADER)
        return Emit(
            topic=self._lane.topic,
            key=message.key,
            value=message.value,
            headers=(*kept, (POSITION_HEADER, record.id.encode())),
            partition=home,
        )

    async def _judge(self, work: "_Work", epochs: Mapping[int, int]) -> dict[int, dict[str, LogState]]:
        """Fold each log's records into its state; the rows are read only where the table cannot say."""
        known: dict[tuple[int, str], LogState] = {}
        ask: dict[tuple[int, str], str] = {}
        for (partition, user), pairs in work.records.items():
            key = log_key(self._log, user)
            state = self._logs.get(partition, key, epochs[partition])
            if state is None or needs_rows(state, (record for _, record in pairs)):
                ask[partition, user] = key
            else:
                known[partition, user] = state
        heads = await self._store.heads(list(ask.values())) if ask else {}
        states: defaultdict[int, dict[str, LogState]] = defaultdict(dict)
        for (partition, user), pairs in work.records.items():
            key = log_key(self._log, user)
            asked = (partition, user) in ask
            before = anchored(epochs[partition], heads[key]) if asked else known[partition, user]
            marks = heads[key].recent if asked else ()
            after, verdicts = fold(before, marks, [record for _, record in pairs], self._log)
            if after != before or asked:
                states[partition][key] = after
            if any(isinstance(verdict, Known) for verdict in verdicts):
                work.known[partition, user] = after.seq
            self._apply(work, partition, user, pairs, verdicts)
        return states

    def _apply(
        self, work: "_Work", partition: int, user: str, pairs: list[tuple[Any, Incoming]], verdicts: list[Verdict]
    ) -> None:
        """Turn verdicts into effects."""
        for (message, record), verdict in zip(pairs, verdicts, strict=True):
            match verdict:
                case Appended(row):
                    work.rows[partition, user].append(row)
                    self._metrics.entries.add(self._lane.name)
                case Repeat() | Known():
                    self._metrics.repeats.add(self._lane.name)
                case Conflict(seq):
                    text = f"the id {record.key!r} was used before with other content (seq {seq} of {self._log})"
                    work.emits.append(self._dead_letters.letter(message, "conflict", text))
                case Expired():
                    self._metrics.expired.add(self._lane.name)
                    work.emits.append(self._status(record, "expired", "expired"))
            if record.notification.device and isinstance(verdict, Appended | Known):
                work.targeted.append((partition, record))

    async def _unknown_devices(self, work: "_Work") -> list[Emit]:
        """Return a status for each record whose one device was never seen; the entry waits for it all the same."""
        missing = [
            record
            for partition, record in work.targeted
            if record.notification.device
            not in {place.device for place in self._connections.get(partition, record.notification.user).values()}
        ]
        if not missing:
            return []
        cursors = await self._store.get_cursors(sorted({record.notification.user for record in missing}))
        return [
            self._status(record, "queued", "unknown_device")
            for record in missing
            if record.notification.device not in {cursor.device for cursor in cursors[record.notification.user]}
        ]

    def _status(self, record: Incoming, state: str, reason: str) -> Emit:
        user = record.notification.user
        at = datetime.fromtimestamp(record.ts / 1000, UTC)
        status = Status(id=record.id, user=user, channel="in_app", state=state, reason=reason, at=at)
        return Emit(self._lane.statuses, record.id.encode(), encode(status))

    def _fanout(self, work: "_Work", epochs: Mapping[int, int]) -> Fanout:
        """Return what the users' open sessions are sent."""
        fanout = Fanout(dict(epochs))
        now = round(time.time() * 1000)
        for (partition, user), rows in work.rows.items():
            for gateway, sessions, runs in self._runs(self._connections.get(partition, user), rows, now):
                fanout.deliver(gateway, partition, Delivery(user=user, sessions=sessions, runs=runs))
        for (partition, user), head in work.known.items():
            if (partition, user) not in work.rows:
                reminder = [Run(log=self._log, first=head, last=head, reason=GAP)]
                for (gateway, _), sessions in self._groups(self._connections.get(partition, user)).items():
                    fanout.deliver(gateway, partition, Delivery(user=user, sessions=sessions, runs=reminder))
        return fanout

    def _runs(self, places: Sessions, rows: list[Row], now: int) -> list[tuple[str, list[str], list[Run]]]:
        """Return (gateway, sessions, runs); devices see the same runs unless a row is for one of them only."""
        targeted = any(row.device for row in rows)
        return [
            (gateway, sessions, [run_of(row, self._log, device, now) for row in rows])
            for (gateway, device), sessions in self._groups(places, by_device=targeted).items()
        ]

    def _groups(self, places: Sessions, *, by_device: bool = False) -> dict[tuple[str, str], list[str]]:
        """Return the sessions by gateway and device, the device left empty where it does not matter."""
        groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for session, place in places.items():
            if place.gateway not in self._publisher.dead:
                groups[place.gateway, place.device if by_device else ""].append(session)
        return groups


class _Work:
    """What a batch amounts to, gathered before anything is done."""

    def __init__(self) -> None:
        self.records: defaultdict[tuple[int, str], list[tuple[Any, Incoming]]] = defaultdict(list)
        self.rows: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
        self.emits: list[Emit] = []
        self.targeted: list[tuple[int, Incoming]] = []  # (partition, record) for one device only
        # Heads of logs whose records had been appended already, by a call that seemed to fail or by a worker whose
        # messages were fenced: the sessions are reminded, and ask for what they lack.
        self.known: dict[tuple[int, str], int] = {}
