"""A deployment without processes: topics on a real Kafka, a SQLite store; `rebuild` stands in for the worker."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from agents.deadletters import DeadLetters
from cli.replay.planning import replay
from cli.replay.reading import reading
from cli.replay.wish import Wish
from cli.topics import apply_topics, opened
from schemas.rows import Cursor, Range, Row
from stack.servers import Kafka
from streams.partitions import home_partition
from streams.producer import BatchProducer, Emit
from streams.settings import Settings
from telemetry.worker import WorkerMetrics

PARTITIONS = 4
_prefixes = itertools.count(1)


class Floor:
    """What producers write, what operators do, and what is there then."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def write(self, *emits: Emit) -> None:
        producer = BatchProducer(self.settings.kafka_options())
        await producer.start()
        try:
            await producer.emit(emits)
        finally:
            await producer.stop()

    def notification(self, user: str, lane: str = "normal", partition: int | None = None, **fields: Any) -> Emit:
        value = json.dumps({"user": user, "title": "t", **fields}).encode()
        home = home_partition(user.encode(), PARTITIONS)
        topic = f"{self.settings.prefix}notifications.{lane}"
        return Emit(topic, user.encode(), value, partition=home if partition is None else partition)

    async def records(self, topic: str) -> list[Any]:
        """Every record of a topic, by partition and offset."""
        async with reading(self.settings) as reader:
            return [r async for page in reader.all_of(self.settings.prefix + topic) for r in page]

    async def values(self, topic: str = "notifications.normal") -> list[dict[str, Any]]:
        return [json.loads(record.value) for record in await self.records(topic)]

    async def rows(self, user: str, lane: str = "normal") -> list[Row]:
        async with opened(self.settings) as store:
            return (await store.read([Range(f"inbox/{lane}/{user}", 1, 100_000)]))[0]

    async def read_up_to(self, user: str, device: str, seq: int, lane: str = "normal") -> None:
        async with opened(self.settings) as store:
            await store.put_cursors([Cursor(user, f"inbox/{lane}", device, seq, seq)])

    async def refuse(self, *reasons: str, topic: str = "notifications.normal") -> None:
        """Do what a worker does with the last records of a topic: make dead letters of them."""
        letters = DeadLetters(f"{self.settings.prefix}dead-letters", WorkerMetrics(CollectorRegistry()))
        last = (await self.records(topic))[-len(reasons) :]
        for record, reason in zip(last, reasons, strict=True):
            message = SimpleNamespace(
                topic=record.topic, partition=record.partition, offset=record.offset, key=record.key,
                value=record.value, headers=record.headers, timestamp=record.timestamp / 1000,
            )  # fmt: skip
            await self.write(letters.letter(message, reason, "because"))

    def with_store(self, url: str) -> "Floor":
        return Floor(msgspec.structs.replace(self.settings, store=url))

    async def work_off(self) -> None:
        """Do what a worker does, as far as rows are concerned; each time anew, under a name of its own."""
        await replay(self.settings, Wish(operation="rebuild", yes=True, run=f"work-{next(_prefixes)}", as_json=True))


@pytest.fixture
async def floor(kafka: Kafka, tmp_path: Path) -> Floor:
    settings = Settings(
        kafka=kafka.address, prefix=f"r{next(_prefixes)}.", store=f"sqlite://{tmp_path}/tocsin.db", limit_bulk=""
    )
    await apply_topics(settings, as_json=True)
    return Floor(settings)


@pytest.fixture
def run(floor: Floor, capsys: pytest.CaptureFixture[str]) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Carry a wish out, or show what it would do; returns what it printed as JSON, and the exit code."""

    async def done(operation: str, **fields: Any) -> dict[str, Any]:
        capsys.readouterr()
        wish = msgspec.convert({"operation": operation, "as_json": True, **fields}, Wish)
        code = await replay(floor.settings, wish)
        said: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return {**said, "code": code}

    return done


async def crash(work: Awaitable[Any]) -> None:
    """Run something that is expected to die of the fault that was laid."""
    with pytest.raises(asyncio.IncompleteReadError):
        await work
