"""The inbox agent of a lane: append each notification to its user's log, then publish it to the user's sessions."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from agents.fanout import Fanout
from agents.parts import Parts
from agents.work import Work
from schemas.bus import GAP, Delivery, Run
from schemas.errors import BadRecord
from schemas.logs import inbox_log, log_key
from schemas.rows import Append, Mark, Row
from streams.connections import Sessions, runs_of
from streams.inbox import (
    POSITION_HEADER,
    Appended,
    Conflict,
    Expired,
    Failed,
    Incoming,
    Known,
    Limited,
    LogState,
    Repeat,
    Verdict,
    anchored,
    fold,
    incoming,
    needs_rows,
)
from streams.limits import RATE_LIMITED, Limit
from streams.partitions import home_partition
from streams.producer import Emit
from streams.runner import Batch

log = logging.getLogger(__name__)


class Lane(msgspec.Struct, frozen=True):
    """A lane's topic: its name in Kafka, its number and incarnation, and how many partitions it has."""

    name: str
    topic: str
    number: int
    incarnation: int
    partitions: int
    limit: Limit | None = None  # how many entries a log takes in a time


class InboxAgent:
    """Handles the batches of one lane."""

    def __init__(self, lane: Lane, parts: Parts) -> None:
        self._lane = lane
        self._log = inbox_log(lane.name)
        self._metrics = parts.metrics
        self._store = parts.store
        self._producer = parts.producer
        self._publisher = parts.publisher
        self._ownership = parts.ownership
        self._dead_letters = parts.dead_letters
        self._sources = parts.sources
        self._statuses = parts.statuses
        self._logs = parts.logs
        self._connections = parts.connections

    async def handle(self, batch: Batch) -> None:
        """Perform the effects of a batch: append, publish and emit, mark."""
        epochs = await self._ownership.held()
        work = Work()
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
        parts = self._fanout(work, epochs).parts()
        await self._producer.emit(work.merged)  # before the publish: what was shown would not be merged a second time
        await asyncio.gather(self._publisher.publish(parts), self._producer.emit(work.emits))
        self._logs.write(states)

    def _sort(self, message: Any, work: Work) -> None:
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

    async def _judge(self, work: Work, epochs: Mapping[int, int]) -> dict[str, LogState]:
        """Fold each log's records into its state; the rows are read only where the table cannot say."""
        known: dict[tuple[int, str], LogState] = {}
        ask: dict[tuple[int, str], str] = {}
        for (partition, user), pairs in work.records.items():
            key = log_key(self._log, user)
            state = self._logs.get(key, epochs[partition])
            if state is None or needs_rows(state, [record for _, record in pairs]):
                ask[partition, user] = key
            else:
                known[partition, user] = state
        heads = await self._store.heads(list(ask.values())) if ask else {}
        asked_heads = [(p, heads[key], [r for _, r in work.records[p, user]]) for (p, user), key in ask.items()]
        await self._sources.check(self._lane.topic, self._lane.incarnation, asked_heads)
        states: dict[str, LogState] = {}
        for (partition, user), pairs in work.records.items():
            key = log_key(self._log, user)
            asked = (partition, user) in ask
            before = anchored(epochs[partition], heads[key]) if asked else known[partition, user]
            marks = heads[key].recent if asked else ()
            after, verdicts = fold(before, marks, [record for _, record in pairs], self._log, self._lane.limit)
            if after != before or asked:
                states[key] = after
            if self._apply(work, partition, user, pairs, verdicts):
                work.known[partition, user] = after.seq
        return states

    def _apply(
        self, work: Work, partition: int, user: str, pairs: list[tuple[Any, Incoming]], verdicts: list[Verdict]
    ) -> bool:
        """Turn verdicts into effects; return whether some of the records had been judged before."""
        known = False
        for (message, record), verdict in zip(pairs, verdicts, strict=True):
            known = known or isinstance(verdict, Known)
            match verdict:
                case Appended(row):
                    work.rows[partition, user].append(row)
                    self._metrics.entries.add(self._lane.name)
                case Limited(row):
                    work.rows[partition, user].append(row)
                    self._limited(work, record)
                case Known(Mark(skip=reason)) if reason == RATE_LIMITED:  # whoever judged it may not have said so
                    self._limited(work, record)
                case Repeat() | Known():
                    self._metrics.repeats.add(self._lane.name)
                case Conflict(seq):
                    text = f"the id {record.key!r} was used before with other content (seq {seq} of {self._log})"
                    work.emits.append(self._dead_letters.letter(message, "conflict", text))
                case Failed(error):
                    log.error("%s: the rule failed at offset %d: %s", message.topic, message.offset, error)
                    work.emits.append(self._dead_letters.letter(message, "rule_failed", error))
                case Expired():
                    self._metrics.expired.add(self._lane.name)
                    work.emits.append(self._status(record, "expired", "expired"))
            if record.notification.device and isinstance(verdict, Appended | Known):
                work.targeted.append((partition, record))
        return known

    def _limited(self, work: Work, record: Incoming) -> None:
        self._metrics.limited.add(self._lane.name)
        work.emits.append(self._status(record, "dropped", RATE_LIMITED))

    async def _unknown_devices(self, work: Work) -> list[Emit]:
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
        return self._statuses.status(record.id, record.notification.user, state, reason, record.ts)

    def _fanout(self, work: Work, epochs: Mapping[int, int]) -> Fanout:
        """Return what the users' open sessions are sent."""
        fanout = Fanout(dict(epochs))
        now = round(time.time() * 1000)
        for (partition, user), rows in work.rows.items():
            places = self._connections.get(partition, user)
            devices = [place.device for place in places.values()]
            work.merged += self._statuses.merged(user, self._log, rows, devices, now)
            for gateway, sessions, runs in self._runs(places, rows, now):
                fanout.deliver(gateway, partition, Delivery(user=user, sessions=sessions, runs=runs))
        for (partition, user), head in work.known.items():
            if (partition, user) not in work.rows:
                reminder = [Run(log=self._log, first=head, last=head, reason=GAP)]
                for (gateway, _), sessions in self._groups(self._connections.get(partition, user)).items():
                    fanout.deliver(gateway, partition, Delivery(user=user, sessions=sessions, runs=reminder))
        return fanout

    def _runs(self, places: Sessions, rows: list[Row], now: int) -> list[tuple[str, list[str], list[Run]]]:
        """Return (gateway, sessions, runs); devices see the same runs unless a row is for one of them only."""
        targeted = any(row.device for row in rows)  # what replaces what also depends on the device only then
        return [
            (gateway, sessions, runs_of(rows, self._log, device, now))
            for (gateway, device), sessions in self._groups(places, by_device=targeted).items()
        ]

    def _groups(self, places: Sessions, *, by_device: bool = False) -> dict[tuple[str, str], list[str]]:
        """Return the sessions by gateway and device, the device left empty where it does not matter."""
        groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for session, place in places.items():
            if place.gateway not in self._publisher.dead:
                groups[place.gateway, place.device if by_device else ""].append(session)
        return groups
