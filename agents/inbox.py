"""The inbox agent of a lane: append each notification to its user's log, then publish it to the user's sessions."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agents.fanout import Fanout, by_gateway, sendings
from agents.parts import Parts
from agents.takeover import Wanted, heads_of
from agents.work import LogWork, Work
from schemas.bus import GAP, Delivery, Run
from schemas.errors import BadRecord, Kind
from schemas.limits import POSITION_HEADER
from schemas.logs import inbox_log, log_key
from schemas.rows import Append
from streams.failures import kind
from streams.inbox import (
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

NOT_KNOWN: Final = LogState(epoch=-1, seq=0, src=0, n=0, prints=b"")  # under an epoch that nobody holds


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
        try:
            await self._perform(work, epochs)
        except Exception as exc:
            if kind(exc) is Kind.REFUSED:
                self._forget(work)
            raise

    async def _perform(self, work: Work, epochs: Mapping[int, int]) -> None:
        await self._judge(work, epochs)
        await self._store.append(
            [Append(log=one.key, epoch=epochs[one.partition], rows=one.rows) for one in work.logs.values() if one.rows]
        )
        work.emits += await self._unknown_devices(work)
        parts = self._fanout(work, epochs).parts()
        await self._producer.emit(work.merged)  # before the publish: what was shown would not be merged a second time
        await asyncio.gather(self._publisher.publish(parts), self._producer.emit(work.emits))
        self._logs.write({one.key: one.after for one in work.logs.values() if one.asked or one.after != one.before})

    def _forget(self, work: Work) -> None:
        """Ask the store for the ends of these logs from now on.

        Some of the batch may have been appended, and what is refused will not be judged with the others again: without
        this a seq that has a row would be given a second time.
        """
        self._logs.write({one.key: NOT_KNOWN for one in work.logs.values()})

    async def reject(self, message: Any, refusal: Exception) -> None:
        """Write the dead letter of a refused record; one that was to be a dead letter anyway keeps its reason."""
        work = Work()
        self._sort(message, work)
        letter = self._dead_letters.among(work.emits) or self._dead_letters.letter(message, "refused", str(refusal))
        await self._dead_letters.write(self._producer.emit, letter)

    def _sort(self, message: Any, work: Work) -> None:
        """Decode a record, or send it on to its home partition or to the dead letters."""
        lane = self._lane
        moved = dict(message.headers).get(POSITION_HEADER) if message.headers else None
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
        user = record.notification.user
        one = work.logs.get(user)
        if one is None:
            one = work.logs[user] = LogWork(message.partition, user, log_key(self._log, user))
        one.messages.append(message)
        one.records.append(record)

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

    async def _judge(self, work: Work, epochs: Mapping[int, int]) -> None:
        """Fold each log's records into its state; the rows are read only where the table cannot say."""
        asked: list[LogWork] = []
        for one in work.logs.values():
            state = self._logs.get(one.key, epochs[one.partition])
            if state is None or needs_rows(state, one.records):
                asked.append(one)
            else:
                one.before = state
        if asked:
            await self._ask(asked, epochs)
        for one in work.logs.values():
            one.after, verdicts = fold(one.before, one.marks, one.records, self._log, self._lane.limit)
            self._apply(work, one, verdicts)

    async def _ask(self, logs: list[LogWork], epochs: Mapping[int, int]) -> None:
        """Read the heads and last marks of logs from the store, and make this worker's own what is judged by them."""
        heads = await heads_of(self._store, {one.key: Wanted(epochs[one.partition], one.records) for one in logs})
        found = [(one.partition, heads[one.key], one.records) for one in logs]
        await self._sources.check(self._lane.topic, self._lane.incarnation, found)
        for one in logs:
            head = heads[one.key]
            one.asked, one.before, one.marks = True, anchored(epochs[one.partition], head), head.recent

    def _apply(self, work: Work, one: LogWork, verdicts: list[Verdict]) -> None:
        """Turn verdicts into effects."""
        appended = 0
        for message, record, verdict in zip(one.messages, one.records, verdicts, strict=True):
            if type(verdict) is Appended:  # nearly all of them; a `match` costs as much as the rest of this loop
                one.rows.append(verdict.row)
                appended += 1
            else:
                self._apply_other(work, one, message, record, verdict)
            if record.notification.device and isinstance(verdict, Appended | Known):
                work.targeted.append((one.partition, record))
        if appended:
            self._metrics.entries.add(self._lane.name, appended)

    def _apply_other(self, work: Work, one: LogWork, message: Any, record: Incoming, verdict: Verdict) -> None:
        match verdict:
            case Limited(row):
                one.rows.append(row)
                self._limited(work, record)
            case Known(mark):
                one.reminded = True
                if mark and mark.skip == RATE_LIMITED:  # whoever judged it may not have said so
                    self._limited(work, record)
                else:
                    self._metrics.repeats.add(self._lane.name)
            case Repeat():
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
        wanted = sorted({(one.notification.user, one.notification.device or "") for one in missing})
        found = zip(wanted, await self._store.standings(wanted, [self._log]), strict=True)
        known = {who for who, one in found if one.device or any(cursor.device == who[1] for cursor in one.cursors)}
        return [
            self._status(record, "queued", "unknown_device")
            for record in missing
            if (record.notification.user, record.notification.device) not in known
        ]

    def _status(self, record: Incoming, state: str, reason: str) -> Emit:
        return self._statuses.status(record.id, record.notification.user, state, reason, record.ts)

    def _fanout(self, work: Work, epochs: Mapping[int, int]) -> Fanout:
        """Return what the users' open sessions are sent."""
        fanout = Fanout(dict(epochs))
        dead = self._publisher.dead
        now = round(time.time() * 1000)
        for one in work.logs.values():
            if not (one.rows or one.reminded):
                continue
            places = self._connections.get(one.partition, one.user)
            if not one.rows:
                reminder = [Run(log=self._log, first=one.after.seq, last=one.after.seq, reason=GAP)]
                sent = [(gateway, sessions, reminder) for gateway, sessions in by_gateway(places, dead).items()]
            else:
                if len(one.rows) > 1:
                    devices = [place.device for place in places.values()]
                    work.merged += self._statuses.merged(one.user, self._log, one.rows, devices, now)
                sent = sendings(places, dead, one.rows, self._log, now)
            for gateway, sessions, runs in sent:
                fanout.deliver(gateway, one.partition, Delivery(user=one.user, sessions=sessions, runs=runs))
        return fanout
