"""A worker process on a real Kafka and a real Redis, with a deployment of its own: a prefix and a SQLite store."""

import asyncio
import itertools
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from schemas.logs import log_key
from schemas.rows import Cursor, Range, Row
from stack import ports
from stack.servers import Kafka, Redis
from streams.partitions import home_partition
from tests.contract.samples import opened
from tests.system import _leashed, environment, stop

PARTITIONS = 4
WITHIN = 40.0  # s

_prefixes = itertools.count(1)


def until(condition: Callable[[], Any], within: float = WITHIN) -> Any:
    """Return what the condition gives once that is true."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {within} s"
        time.sleep(0.05)
    return found


class Letter(msgspec.Struct, frozen=True):
    """A record of a topic of ours, as it lies there."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Deployment:
    """What operators and producers do, and what they see."""

    def __init__(self, kafka: str, redis: str, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        self.prefix = f"w{next(_prefixes)}."
        self.store = f"sqlite://{folder}/tocsin.db"
        self._port = ports.free_port()
        self._settings = {
            "TOCSIN_KAFKA": kafka, "TOCSIN_REDIS": redis, "TOCSIN_PREFIX": self.prefix, "TOCSIN_STORE": self.store,
            "TOCSIN_DATA": str(folder / "data"), "TOCSIN_METRICS_PORT": str(self._port),
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self._producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})

    def tocsin(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "cli", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment())
        assert done.returncode == 0, done.stderr

    def doctor(self) -> tuple[int, list[dict[str, Any]]]:
        """The exit code and the findings of `tocsin doctor`."""
        command = [sys.executable, "-m", "cli", "doctor", "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment())
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, msgspec.json.decode(done.stdout)["findings"]

    def environment(self, **settings: str) -> dict[str, str]:
        return dict(environment(**self._settings | settings))

    def start(self, **settings: str) -> None:
        with (self.folder / "worker.log").open("wb") as log:
            command = _leashed([sys.executable, "-m", "cli", "worker", "--role", "inbox"])
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=self.environment(**settings)
            )

    def wait_until_ready(self) -> None:
        until(lambda: self._answers() or self.ended())
        assert not self.ended(), self.said()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health/ready", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        return stop(self.process)

    def said(self) -> str:
        return (self.folder / "worker.log").read_text()

    # Producers

    def send(
        self,
        key: bytes | None,
        value: bytes | None,
        *,
        topic: str = "notifications.normal",
        partition: int | None = None,
    ) -> tuple[int, int]:
        """Write a record and return (partition, offset)."""
        done: list[Message] = []
        place = {} if partition is None else {"partition": partition}
        self._producer.produce(
            self.prefix + topic, key=key, value=value, on_delivery=lambda _, message: done.append(message), **place
        )
        assert self._producer.flush(10) == 0
        assert done[0].error() is None
        return done[0].partition(), done[0].offset()

    def send_all(self, records: Iterable[tuple[bytes, bytes]], *, topic: str, partition: int) -> int:
        """Write records to one partition and return the offset of the last."""
        done: list[Message] = []
        for key, value in records:
            self._producer.produce(
                self.prefix + topic, key=key, value=value, partition=partition,
                on_delivery=lambda _, message: done.append(message),
            )  # fmt: skip
        assert self._producer.flush(30) == 0
        return max(int(message.offset() or 0) for message in done)

    def send_note(self, user: str, *, partition: int | None = None, **fields: Any) -> tuple[int, int]:
        value = msgspec.json.encode({"user": user, **({} if "title" in fields else {"title": "t"}), **fields})
        return self.send(user.encode(), value, partition=partition)

    # What becomes of it

    def rows(self, user: str) -> list[Row]:
        async def read() -> list[Row]:
            async with opened(self.store) as store:
                return (await store.read([Range(log_key("inbox/normal", user), 1, 1_000)]))[0]

        return asyncio.run(read())

    def cursors(self, user: str) -> list[Cursor]:
        async def read() -> list[Cursor]:
            async with opened(self.store) as store:
                return (await store.get_cursors([user]))[user]

        return asyncio.run(read())

    def expect_rows(self, user: str, count: int) -> list[Row]:
        def enough() -> list[Row]:
            assert not self.ended(), self.said()
            rows = self.rows(user)
            return rows if len(rows) >= count else []

        rows: list[Row] = until(enough)
        assert len(rows) == count
        return rows

    def written(self, topic: str) -> list[Letter]:
        """Everything that a topic holds now."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "nobody", "enable.auto.commit": False})
        try:
            places = [TopicPartition(self.prefix + topic, n, OFFSET_BEGINNING) for n in range(PARTITIONS)]
            left = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
            consumer.assign(places)
            found: list[Letter] = []
            while left > len(found):
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append(Letter(message.key(), message.value(), dict(message.headers() or ())))
            return found
        finally:
            consumer.close()

    def letters_of(self, place: tuple[int, int], topic: str = "notifications.normal") -> list[Letter]:
        """The dead letters of the record at a place."""
        source = ((self.prefix + topic).encode(), *(str(number).encode() for number in place))
        names = ("tocsin-topic", "tocsin-partition", "tocsin-offset")
        return [one for one in self.written("dead-letters") if tuple(one.headers[name] for name in names) == source]

    def statuses_of(self, user: str) -> list[dict[str, Any]]:
        found = [msgspec.json.decode(one.value or b"") for one in self.written("statuses")]
        return [one for one in found if one["user"] == user]

    def committed(self, topic: str, partition: int) -> int:
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": f"{self.prefix}tocsin-inbox"})
        try:
            return int(consumer.committed([TopicPartition(self.prefix + topic, partition)], timeout=10)[0].offset)
        finally:
            consumer.close()


def home(user: str) -> int:
    return home_partition(user.encode(), PARTITIONS)


def _deployed(kafka: Kafka, redis: Redis, folder: Path) -> Iterator[Deployment]:
    url = redis.address if "://" in redis.address else f"redis://{redis.address}/0"
    deployment = Deployment(kafka.address, url, folder)
    deployment.tocsin("store", "apply")
    deployment.tocsin("topics", "apply")
    yield deployment
    if deployment.process is not None:
        stop(deployment.process)


@pytest.fixture
def deployment(kafka: Kafka, redis_server: Redis, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment whose worker has not been started."""
    yield from _deployed(kafka, redis_server, tmp_path)


@pytest.fixture(scope="module")
def running(kafka: Kafka, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment whose worker runs; the tests of a module share it."""
    for deployment in _deployed(kafka, redis_server, tmp_path_factory.mktemp("worker")):
        deployment.start()
        deployment.wait_until_ready()
        yield deployment
