"""Emits in batches: everything of one micro-batch that goes to one partition leaves in as few requests as fit.

What the broker refuses for its size is cut in halves until one record is found. A producer that asks Kafka to drop what
it sends twice is of no use for a partition after one refusal, since it has counted what was refused: then another one
takes its place.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownProducerId,
)

from links.kafka import guard
from streams.partitions import home_partition

log = logging.getLogger(__name__)

Headers = tuple[tuple[str, bytes], ...]
Place = tuple[str, int]  # topic and partition
MAX_BATCH = 512 * 1024  # bytes of one record batch; a record that is larger leaves in one of its own
LEAST_BATCH: Final = 16 * 1024  # bytes below which it is not the batch that is too large, but its records
STOPPING: Final = 15.0  # s in which a producer that was replaced has to write what it still holds
TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
OUT_OF_STEP: Final = (OutOfOrderSequenceNumber, UnknownProducerId, InvalidProducerEpoch, ProducerFenced)


class Emit(msgspec.Struct, frozen=True, gc=False):
    """A record to be written. Without `partition` it goes to the home partition of its key.

    `spare` is written in its place where the broker refuses it for its size.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    timestamp_ms: int | None = None
    spare: "Emit | None" = None


class Written(msgspec.Struct, frozen=True, gc=False):
    """Where a run of records of one partition was written: `count` records from `offset` on."""

    topic: str
    partition: int
    offset: int
    count: int


Sent = tuple[Place, Sequence[Emit], asyncio.Future[Any]]


class BatchProducer:
    """A producer (acks=all, idempotent where the broker can do that) that is handed whole record batches."""

    def __init__(self, kafka: Mapping[str, Any], *, idempotent: bool = True) -> None:
        self._idempotent = idempotent
        self._kafka = kafka
        self._producer: Any = None  # the client wants to be made inside the running loop
        self._renewing = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self._largest: dict[str, int] = {}  # bytes of a batch that the broker takes, by topics that refused one
        self.emitting = 0  # records that Kafka has not acknowledged

    async def start(self) -> None:
        """Connect to the brokers."""
        self._producer = self._made()
        await self._producer.start()

    def _made(self) -> Any:
        producer = AIOKafkaProducer(
            **self._kafka,
            acks="all",
            enable_idempotence=self._idempotent,
            max_batch_size=MAX_BATCH,
            request_timeout_ms=15_000,
        )
        guard(producer.client)
        return producer

    async def stop(self) -> None:
        """Flush and disconnect."""
        if self._producer is not None:
            await self._producer.stop()
        await asyncio.gather(*self._ending)

    async def reachable(self, within: float) -> bool:
        """Say whether Kafka answers within so many seconds."""
        try:
            async with asyncio.timeout(within):
                return bool(await self._producer.client.force_metadata_update())
        except TimeoutError:
            return False

    async def emit(self, emits: Iterable[Emit]) -> None:
        """Write records and return when every one of them is acknowledged; order is kept within a partition."""
        by_partition: defaultdict[tuple[str, int], list[Emit]] = defaultdict(list)
        for record in emits:
            by_partition[record.topic, await self._partition(record)].append(record)
        await self.write_runs(by_partition)

    async def write_runs(self, runs: dict[tuple[str, int], list[Emit]]) -> list[Written]:
        """Write a list of records to each partition and return where they lie.

        Raises `MessageSizeTooLargeError` for a record that the broker refuses for its size, and its `spare` as well.
        """
        producer = self._producer
        try:
            sent = await self._send(producer, runs)
        except KafkaError as exc:  # such as of a client whose sender has ended
            await self._renew(producer, exc)
            raise
        size = sum(len(records) for _, records, _ in sent)
        self.emitting += size
        try:
            done = await asyncio.gather(*[future for *_, future in sent], return_exceptions=True)
            if not any(isinstance(result, BaseException) for result in done):
                return [_written(*one, result) for one, result in zip(sent, done, strict=True)]
            return await self._after_refusals(producer, sent, done)
        finally:
            self.emitting -= size

    async def _send(self, producer: Any, runs: Mapping[Place, Sequence[Emit]]) -> list[Sent]:
        """Send what fits into a batch of each partition at once, and the rest batch by batch.

        The client has one batch of a partition under way, too. What follows one that is refused is not sent: Kafka may
        take it, and then it would stand before what was refused beside the one record that is wrong.
        """
        sent: list[Sent] = []
        more: list[tuple[Place, Sequence[Emit], int, asyncio.Future[Any]]] = []
        for place, records in runs.items():
            if records:
                count, future = await self._send_some(producer, place, records, 0)
                sent.append((place, records[:count], future))
                if count < len(records):
                    more.append((place, records, count, future))
        for rest in await asyncio.gather(*[self._send_rest(producer, *one) for one in more]) if more else ():
            sent += rest
        return sent

    async def _send_rest(
        self, producer: Any, place: Place, records: Sequence[Emit], at: int, before: asyncio.Future[Any]
    ) -> list[Sent]:
        sent: list[Sent] = []
        while at < len(records):
            await asyncio.wait([before])
            if before.cancelled() or before.exception():
                return [*sent, (place, records[at:], before)]  # they share its fate
            count, before = await self._send_some(producer, place, records, at)
            sent.append((place, records[at : at + count], before))
            at += count
        return sent

    async def _send_some(
        self, producer: Any, place: Place, records: Sequence[Emit], at: int
    ) -> tuple[int, asyncio.Future[Any]]:
        batch, count = self._filled(producer, records, at)
        return count, await producer.send_batch(batch, place[0], partition=place[1])

    def _filled(self, producer: Any, records: Sequence[Emit], first: int) -> tuple[Any, int]:
        """Return a batch with as many of the records, from one on, as it takes, and their number; never none."""
        batch = producer.create_batch()
        most = self._largest.get(records[first].topic)
        for number in range(first, len(records)):
            record = records[number]
            value = b"" if record.key is None and record.value is None else record.value  # the client refuses two nulls
            if most and number > first and batch.size() + _size(record) > most:
                return batch, number - first
            added = batch.append(
                key=record.key, value=value, timestamp=record.timestamp_ms, headers=list(record.headers)
            )  # fmt: skip
            if added is None:
                return batch, number - first
        return batch, len(records) - first

    async def _after_refusals(self, producer: Any, sent: Sequence[Sent], done: Sequence[Any]) -> list[Written]:
        """Write again, with care, what was refused for its size and all that follows it in its partition.

        None of that was sent (`_send`).
        """
        written: list[Written] = []
        again: dict[Place, list[Emit]] = {}
        for one, result in zip(sent, done, strict=True):
            place, records, _ = one
            if place in again:
                again[place] += records
            elif isinstance(result, (*TOO_LARGE, *OUT_OF_STEP)):
                again[place] = list(records)
            elif isinstance(result, BaseException):
                await self._renew(producer, result)
                raise result
            else:
                written.append(_written(*one, result))
        await self._renew(producer)
        for place, records in again.items():
            written += await self._with_care(place, records)
        return written

    async def _with_care(self, place: Place, records: Sequence[Emit]) -> list[Written]:
        """Write batch after batch; one that is refused for its size is cut in two, down to the one record."""
        written: list[Written] = []
        left = list(records)
        most = len(left)
        while left:
            producer = self._producer
            batch, count = self._filled(producer, left[:most], 0)
            size = batch.size()
            try:
                done = await (await producer.send_batch(batch, place[0], partition=place[1]))
            except TOO_LARGE as exc:
                await self._renew(producer)
                if count > 1:
                    most = count // 2
                    self._largest[place[0]] = max(LEAST_BATCH, min(self._largest.get(place[0], MAX_BATCH), size // 2))
                elif left[0].spare is not None:
                    log.warning("%s does not take a record of %d bytes; a shorter one is written", place[0], size)
                    left[0] = left[0].spare
                else:
                    raise MessageSizeTooLargeError(f"{place[0]} does not take a record of {size} bytes") from exc
            else:
                written.append(_written(place, left[:count], None, done))
                del left[:count]
                most = len(left)
        return written

    async def _renew(self, producer: Any, failure: BaseException | None = None) -> None:
        """Put another client in the place of one that cannot go on; what the old one still holds it writes first."""
        if failure is not None and (not isinstance(failure, KafkaError) or failure.retriable):
            return
        async with self._renewing:
            if self._producer is not producer:
                return
            another = self._made()
            try:
                await another.start()
            except BaseException:
                await another.stop()
                raise
            self._producer = another
            task = asyncio.create_task(_stop(producer))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _partition(self, record: Emit) -> int:
        if record.partition is not None:
            return record.partition
        partitions = await self._producer.partitions_for(record.topic)
        return home_partition(record.key or b"", len(partitions))


def _written(place: Place, records: Sequence[Emit], _: Any, done: Any) -> Written:
    return Written(place[0], place[1], done.offset, len(records))


def _size(record: Emit) -> int:
    """Return the bytes of a record in a batch, at the most about."""
    headers = sum(len(name) * 4 + len(text or b"") + 10 for name, text in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers + 30


async def _stop(producer: Any) -> None:
    try:
        async with asyncio.timeout(STOPPING):
            await producer.stop()
    except (TimeoutError, KafkaError) as exc:
        log.warning("a Kafka producer that was replaced did not end cleanly: %r", exc)
