"""A worker that counts into a table, its process and its files in the test's hands, on a real Kafka."""

import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rocksdict
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError

from bench.rebalance_check import differences, fold
from bench.rebalance_worker import PARTITIONS, ROLE, Event, Last, decode_last
from stack.child import Child
from stack.servers import Kafka
from tables.rocks import AS_OF

OFFSET_KEY = b"__faust\0offset__"
WITHIN = 60.0  # s
COMPACTED = {"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01"}

Changes = list[tuple[int, bytes, bytes | None]]


class Counting:
    """The worker, and what was produced for it. `slot` names the data folder that the worker is started on."""

    def __init__(self, brokers: str, folder: Path) -> None:
        self.brokers = brokers
        self.folder = folder
        self.prefix = f"t{time.time_ns():x}."
        self.sent: Counter[str] = Counter()
        self.slot = "a"
        self.module = "bench.rebalance_worker"
        self.produced = 0
        self._worker: Child | None = None
        self._started: list[Child] = []

    @property
    def changelog_name(self) -> str:
        return f"{self.prefix}tocsin-{ROLE}-last-changelog"

    @property
    def data(self) -> Path:
        return self.folder / self.slot

    @property
    def said(self) -> str:
        return (self.folder / "worker.log").read_text()

    # The worker

    @property
    def worker(self) -> Child:
        assert self._worker is not None
        return self._worker

    def start(self) -> None:
        command = [sys.executable, "-m", self.module, "ours", self.brokers, self.prefix, str(self.data), "w"]
        self._worker = Child("worker", command, log=self.folder / "worker.log")
        self._started.append(self._worker)
        self._worker.spawn()

    def end(self) -> None:
        """Leave no worker behind."""
        for worker in self._started:
            worker.kill()

    def kill(self) -> None:
        assert self._worker is not None
        self._worker.kill()

    def stop(self) -> None:
        assert self._worker is not None
        self._worker.send(signal.SIGTERM)
        assert self._worker.wait(30), self.said[-3000:]

    def run(self) -> None:
        """Let a worker do all there is to do, start it again when it ends, and stop it."""
        self.start()
        self.finish()
        self.stop()

    def finish(self) -> None:
        """Return when all is committed."""
        end = time.monotonic() + WITHIN
        while asyncio.run(self._behind()):
            assert time.monotonic() < end, self.said[-3000:]
            assert self._worker is not None
            if not self._worker.running:
                self._worker.spawn()
            time.sleep(0.1)

    # Kafka

    async def _behind(self) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.brokers)
        await admin.start()
        async with self._consumer() as consumer:
            places = [TopicPartition(f"{self.prefix}events", number) for number in range(PARTITIONS)]
            ends = await consumer.end_offsets(places)
        done = {}
        with contextlib.suppress(KafkaError):  # the group has no coordinator yet
            found = await admin.list_consumer_group_offsets(f"{self.prefix}tocsin-{ROLE}")
            done = {place: at.offset for place, at in found.items()}
        await admin.close()
        return sum(ends[place] > max(0, done.get(place, 0)) for place in places)

    @contextlib.asynccontextmanager
    async def _consumer(self) -> Any:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.brokers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    def make_topics(self, changelog: dict[str, str] | None = None, sources: dict[str, str] | None = None) -> None:
        async def make() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.brokers)
            await admin.start()
            named = {f"{self.prefix}events": sources, f"{self.prefix}out": None, self.changelog_name: changelog}
            topics = [NewTopic(name, PARTITIONS, 1, topic_configs=config or {}) for name, config in named.items()]
            await admin.create_topics(topics)
            await admin.close()

        asyncio.run(make())

    def event(self, user: str) -> bytes:
        """Return the next event of a user."""
        self.sent[user] += 1
        self.produced += 1
        return msgspec.json.encode(Event(self.produced, user, self.sent[user]))

    def produce(self, each: int, users: int = 200) -> None:
        """Produce so many events for each user."""

        async def produce() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.brokers, enable_idempotence=True) as producer:
                waits = []
                for _ in range(each):
                    for number in range(users):
                        user = f"u{number}"
                        send = producer.send(f"{self.prefix}events", self.event(user), key=user.encode())
                        waits.append(await send)
                await asyncio.gather(*waits)

        asyncio.run(produce())

    def changelog(self) -> dict[int, Changes]:
        return self._records(self.changelog_name)

    def count(self, topic: str) -> int:
        """Return how many records a topic has."""
        return sum(len(records) for records in self._records(f"{self.prefix}{topic}").values())

    def counted(self) -> dict[str, Last]:
        """Return the values of the table, as the changelog has them."""
        folded = [fold(changes) for changes in self.changelog().values()]
        return {key.decode(): decode_last(value) for values in folded for key, value in values.items()}

    def _records(self, topic: str) -> dict[int, Changes]:
        async def read() -> dict[int, Changes]:
            places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            found: dict[int, Changes] = {number: [] for number in range(PARTITIONS)}
            async with self._consumer() as consumer:
                consumer.assign(places)
                ends = await consumer.end_offsets(places)
                while any([await consumer.position(place) < ends[place] for place in places]):
                    for place, records in (await consumer.getmany(timeout_ms=300)).items():
                        found[place.partition] += [(r.offset, r.key, r.value) for r in records]
            return found

        return asyncio.run(read())

    def forget_changelog(self) -> None:
        """Delete what the changelog holds so far."""

        async def delete() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.brokers)
            await admin.start()
            places = [TopicPartition(self.changelog_name, number) for number in range(PARTITIONS)]
            async with self._consumer() as consumer:
                ends = await consumer.end_offsets(places)
            await admin.delete_records({place: RecordsToDelete(before_offset=end) for place, end in ends.items()})
            await admin.close()

        asyncio.run(delete())

    # Files

    def files(self) -> list[Path]:
        return sorted(self.data.glob("**/last-*.db"))

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[Any]:
        with contextlib.closing(rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True))) as files:
            yield files

    def check(self) -> None:
        """The files hold just what was sent, and so does the changelog."""
        changelog = self.changelog()
        found: dict[str, tuple[int, int]] = {}
        for path in self.files():
            number = int(path.stem.rpartition("-")[2])
            with self.opened(path) as files:
                held = {bytes(key): bytes(value) for key, value in files.items()}
            del held[AS_OF]
            assert int(held.pop(OFFSET_KEY)) == max((offset for offset, *_ in changelog[number]), default=-1)
            assert differences(held, fold(changelog[number])) == 0
            found |= {
                key.decode(): (last.seq, last.count) for key, last in ((k, decode_last(v)) for k, v in held.items())
            }
        assert found == {user: (seq, seq) for user, seq in self.sent.items()}


@pytest.fixture
def counting(kafka: Kafka, tmp_path: Path) -> Iterator[Counting]:
    counting = Counting(kafka.address, tmp_path)
    yield counting
    counting.end()


def eventually(condition: Callable[[], Any], within: float = WITHIN) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} s"
        time.sleep(0.5)
