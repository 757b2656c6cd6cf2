"""Writing to Kafka: one batch a partition and topic at a time, repeated until Kafka has it."""

import asyncio
import logging
from collections.abc import Mapping
from itertools import chain, repeat
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError

from gateway.outbox import Outbox, Record
from links.kafka import guard
from schemas.errors import Refused, TocsinError
from telemetry.gateway import GatewayMetrics

log = logging.getLogger(__name__)

MAX_BATCH: Final = 900_000  # bytes, below what a broker takes by default
SOON: Final = 0.002  # s in which what is urgent gathers
ACKS: Final = 0.2  # s in which acks gather
BACKOFF: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # s before a batch is written again
STOPPING: Final = 3.0  # s
STALE: Final = 5.0  # s without an answer from Kafka after which the gateway is not ready


class Sender(Protocol):
    """Writes records to the topics `connections` and `acks`."""

    async def start(self) -> int:
        """Connect and return the partition count of both topics. Raises `TocsinError`."""

    async def stop(self) -> None:
        """Disconnect."""

    async def send(self, partition: int, records: list[Record], *, acks: bool = False) -> None:
        """Return when `acks`, else `connections` has all records, in order. Raises `TocsinError` if it may not.

        `Refused` says that it will never take them as they are.
        """


class KafkaSender:
    """A `Sender` on a real Kafka: acks=all, idempotent. An idempotent batch waits for Kafka however long it takes."""

    def __init__(self, kafka: Mapping[str, Any], topic: str, acks: str, *, idempotent: bool = True) -> None:
        """Begin; `topic` is for all but acknowledgements, which go to `acks`."""
        self._kafka = kafka
        self._idempotent = idempotent
        self._topics = (topic, acks)
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Connect and return the topics' partition count. Raises `TocsinError` if there is no broker or no topic."""
        producer = AIOKafkaProducer(
            **self._kafka,
            acks="all",
            enable_idempotence=self._idempotent,
            max_batch_size=MAX_BATCH,
            request_timeout_ms=10_000,
        )
        guard(producer.client)
        try:
            await producer.start()
            counts = [await self._count(producer, topic) for topic in self._topics]
        except KafkaError as exc:
            await producer.stop()
            raise TocsinError(f"Kafka at {self._kafka['bootstrap_servers']} cannot be used: {exc}") from None
        except TocsinError:
            await producer.stop()
            raise
        self._producer = producer
        return counts[0]

    async def _count(self, producer: Any, topic: str) -> int:
        try:
            partitions = await producer.partitions_for(topic)
        except UnknownTopicOrPartitionError:
            partitions = None
        if not partitions:
            raise TocsinError(f"Kafka has no topic {topic}; `tocsin topics apply` makes it")
        return len(partitions)

    async def send(self, partition: int, records: list[Record], *, acks: bool = False) -> None:
        """Write records, in as few batches as they fit into."""
        async with self._starting:
            if self._producer is None:
                await self.start()
        producer, topic = self._producer, self._topics[acks]
        try:
            batch = producer.create_batch()
            for key, value in records:
                if batch.append(key=key, value=value, timestamp=None) is None:
                    await self._write(producer, batch, topic, partition)
                    batch = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None)
            await self._write(producer, batch, topic, partition)
        except KafkaError as exc:
            self._replace(producer)
            kind = Refused if isinstance(exc, MessageSizeTooLargeError) else TocsinError
            raise kind(f"Kafka did not take {len(records)} records: {exc!r}") from exc

    async def _write(self, producer: Any, batch: Any, topic: str, partition: int) -> None:
        batch.close()
        await (await producer.send_batch(batch, topic, partition=partition))

    def _replace(self, producer: Any) -> None:
        """Let go of a producer that failed: after some errors an idempotent one refuses everything."""
        if self._producer is producer:
            self._producer = None
            task = asyncio.get_running_loop().create_task(_stop(producer))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def stop(self) -> None:
        """Disconnect; what waits and cannot be written within some seconds is given up."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)
        await asyncio.gather(*self._ending)


async def _stop(producer: Any) -> None:
    try:
        async with asyncio.timeout(STOPPING):
            await producer.stop()
    except (TimeoutError, KafkaError) as exc:
        log.warning("the Kafka producer did not end cleanly: %r", exc)


class Writer:
    """Empties the outbox: the urgent within 2 ms, acks within 200 ms, a batch at a time of a partition and topic."""

    def __init__(self, outbox: Outbox, sender: Sender, metrics: GatewayMetrics) -> None:
        self._outbox = outbox
        self._sender = sender
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.TimerHandle | None = None
        self._acks: asyncio.TimerHandle | None = None
        self._busy: dict[tuple[int, bool], asyncio.Task[None]] = {}  # by partition and whether they are acks
        self._since: dict[tuple[int, bool], float] = {}  # when the batch in flight was begun
        metrics.outbox_writing.set_function(lambda: len(self._busy))

    def wake(self) -> None:
        """Look at the outbox soon; called whenever something was put in."""
        if self._soon is None and self._outbox.urgent:
            self._soon = self._loop.call_later(SOON, self._write_urgent)
        if self._acks is None and self._outbox.acked:
            self._acks = self._loop.call_later(ACKS, self._write_acks)

    def _write_urgent(self) -> None:
        self._soon = None
        self._begin_all(acks=False)

    def _write_acks(self) -> None:
        self._acks = None
        self._begin_all(acks=True)

    def _begin_all(self, *, acks: bool) -> None:
        for partition in list(self._outbox.acked if acks else self._outbox.urgent):
            if (partition, acks) not in self._busy:
                self._begin(partition, acks=acks)

    def _begin(self, partition: int, *, acks: bool) -> None:
        records = self._outbox.take(partition, acks=acks)
        if records:
            self._since[partition, acks] = self._loop.time()
            self._busy[partition, acks] = self._loop.create_task(self._write(partition, records, acks=acks))

    async def _write(self, partition: int, records: list[Record], *, acks: bool) -> None:
        try:
            await self._deliver(partition, records, acks=acks)
        finally:
            del self._busy[partition, acks], self._since[partition, acks]
            self.wake()

    async def _deliver(self, partition: int, records: list[Record], *, acks: bool) -> None:
        """Write records as often as it takes; of those that cannot be written, find the ones that are to blame."""
        for pause in chain(BACKOFF, repeat(BACKOFF[-1])):
            try:
                await self._sender.send(partition, records, acks=acks)
            except Refused as exc:
                return await self._deliver_halves(partition, records, exc, acks=acks)
            except TocsinError as exc:
                self._metrics.outbox_failures.inc()
                log.warning("partition %d of %s is written again in %s s: %s", partition, _topic(acks), pause, exc)
                await asyncio.sleep(pause)
            except Exception as exc:  # noqa: BLE001 - it is logged with the record that is to blame
                return await self._deliver_halves(partition, records, exc, acks=acks)
            else:
                return None
        return None

    async def _deliver_halves(self, partition: int, records: list[Record], exc: Exception, *, acks: bool) -> None:
        if len(records) == 1:
            log.error("a record for partition %d of %s is dropped", partition, _topic(acks), exc_info=exc)
            self._metrics.dropped_records.inc()
            return
        half = len(records) // 2
        await self._deliver(partition, records[:half], acks=acks)
        await self._deliver(partition, records[half:], acks=acks)

    async def flush(self, deadline: float) -> bool:
        """Write all that waits within `deadline` seconds; return whether that was done."""
        try:
            async with asyncio.timeout(deadline):
                while self._busy or self._outbox.urgent or self._outbox.acked:
                    self._begin_all(acks=False)
                    self._begin_all(acks=True)
                    if self._busy:
                        await asyncio.wait(list(self._busy.values()))
        except TimeoutError:
            return False
        return True

    def problem(self) -> str | None:
        """Return why the gateway is not ready, None if Kafka takes what it is given."""
        oldest = min(self._since.values(), default=None)
        if oldest is not None and self._loop.time() - oldest > STALE:
            return "Kafka does not take what the gateway writes"
        return None


def _topic(acks: bool) -> str:
    return "acks" if acks else "connections"
