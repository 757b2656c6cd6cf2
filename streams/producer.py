"""Emits in batches: everything of one micro-batch that goes to one partition leaves in as few requests as fit."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from links.kafka import guard
from streams.partitions import home_partition

Headers = tuple[tuple[str, bytes], ...]
MAX_BATCH = 512 * 1024  # bytes of one record batch
MAX_REQUEST = 2 * 1024 * 1024  # bytes; a control record of 1 MiB has to fit


class Emit(msgspec.Struct, frozen=True, gc=False):
    """A record to be written. Without `partition` it goes to the home partition of its key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    timestamp_ms: int | None = None


class Written(msgspec.Struct, frozen=True, gc=False):
    """Where a run of records of one partition was written: `count` records from `offset` on."""

    topic: str
    partition: int
    offset: int
    count: int


class BatchProducer:
    """A producer (acks=all, idempotent where the broker can do that) that is handed whole record batches."""

    def __init__(self, kafka: Mapping[str, Any], *, idempotent: bool = True) -> None:
        self._idempotent = idempotent
        self._kafka = kafka
        self._producer: Any = None  # the client wants to be made inside the running loop
        self.emitting = 0  # records that Kafka has not acknowledged

    async def start(self) -> None:
        """Connect to the brokers."""
        self._producer = AIOKafkaProducer(
            **self._kafka,
            acks="all",
            enable_idempotence=self._idempotent,
            max_batch_size=MAX_BATCH,
            max_request_size=MAX_REQUEST,
            request_timeout_ms=15_000,
        )
        guard(self._producer.client)
        await self._producer.start()

    async def renew(self) -> None:
        """Begin anew, with no record on its way: after a refused batch Kafka waits for a sequence that never comes."""
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """Flush and disconnect."""
        if self._producer is not None:
            await self._producer.stop()

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
        """Write a list of records to each partition and return where they lie."""
        waits: list[asyncio.Future[Any]] = []
        sizes: list[int] = []
        for (topic, partition), records in runs.items():
            for future, size in await self._send(topic, partition, records):
                waits.append(future)
                sizes.append(size)
        self.emitting += sum(sizes)
        try:
            done = await asyncio.gather(*waits)
        finally:
            self.emitting -= sum(sizes)
        return [Written(d.topic, d.partition, d.offset, size) for d, size in zip(done, sizes, strict=True)]

    async def _send(self, topic: str, partition: int, records: Sequence[Emit]) -> list[tuple[asyncio.Future[Any], int]]:
        sent: list[tuple[asyncio.Future[Any], int]] = []
        batch = self._producer.create_batch()
        size = 0
        for record in records:
            while not self._append(batch, record):
                if not size:  # larger than a batch may be: the client's own path takes it up to the request size
                    sent.append((await self._send_alone(topic, partition, record), 1))
                    break
                sent.append((await self._producer.send_batch(batch, topic, partition=partition), size))
                batch, size = self._producer.create_batch(), 0
            else:
                size += 1
        if size:
            sent.append((await self._producer.send_batch(batch, topic, partition=partition), size))
        return sent

    @staticmethod
    def _append(batch: Any, record: Emit) -> bool:
        value = b"" if record.key is None and record.value is None else record.value  # the client refuses two nulls
        added = batch.append(key=record.key, value=value, timestamp=record.timestamp_ms, headers=list(record.headers))
        return added is not None

    async def _send_alone(self, topic: str, partition: int, record: Emit) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = await self._producer.send(
            topic, record.value, key=record.key, partition=partition, headers=list(record.headers)
        )
        return future

    async def _partition(self, record: Emit) -> int:
        if record.partition is not None:
            return record.partition
        partitions = await self._producer.partitions_for(record.topic)
        return home_partition(record.key or b"", len(partitions))
