"""A connection that was reset is an error that the Kafka client knows, also under uvloop."""

import asyncio
import gc
import inspect
import weakref
from pathlib import Path
from typing import Any

import aiokafka.client
import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import BrokerMetadata

from gateway.follower import Follower
from gateway.producer import KafkaSender
from links.kafka import guard
from streams.app import make_app
from streams.producer import BatchProducer
from streams.settings import Settings


class Connection:
    """One that was reset, and whose end nobody has noticed yet."""

    def __init__(self) -> None:
        self.closed: Any = None

    def connected(self) -> bool:
        return self.closed is None

    def send(self, _request: Any, _expect_response: bool = True) -> Any:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    def close(self, reason: Any = None) -> None:
        self.closed = reason


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    made: list[Connection] = []

    async def connect(*_: Any, **__: Any) -> Connection:
        made.append(Connection())
        return made[-1]

    monkeypatch.setattr(aiokafka.client, "create_conn", connect)
    client: Any = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    monkeypatch.setattr(client.cluster, "brokers", lambda: {BrokerMetadata(1, "h", 1, None)})
    monkeypatch.setattr(client.cluster, "broker_metadata", lambda node: BrokerMetadata(node, "h", 1, None))
    client.made = made
    return client


async def test_the_metadata_are_asked_for_again_after_a_reset(client: Any) -> None:
    guard(client)
    assert await client._metadata_update(ClusterMetadata(), ["t"]) is False, "it did not end the task"
    assert client.made[0].closed is not None
    assert await client._metadata_update(ClusterMetadata(), ["t"]) is False
    assert len(client.made) == 2, "and by another connection"


async def test_without_the_guard_the_task_ends(client: Any) -> None:
    """When this fails aiokafka has learned it, and the guard can go."""
    with pytest.raises(RuntimeError):
        await client._metadata_update(ClusterMetadata(), ["t"])


async def test_a_request_that_meets_a_reset_fails_as_the_client_s_callers_expect(client: Any) -> None:
    guard(client)
    with pytest.raises(KafkaConnectionError, match="reset"):
        await client.send(1, None)


async def test_a_guarded_connection_is_not_kept_alive(client: Any) -> None:
    guard(client)
    await client._get_conn(1)
    gone = weakref.ref(client.made.pop())
    client._conns.clear()
    gc.collect()
    assert gone() is None


class End(asyncio.Protocol):
    """Our end of a connection."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost.set()


def test_uvloop_raises_what_the_guard_takes() -> None:
    async def write_to_a_closed_connection() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, end = await loop.create_connection(End, *server.sockets[0].getsockname())
        transport.abort()
        await end.lost.wait()
        with pytest.raises(RuntimeError, match="closed"):
            transport.write(b"x")
        server.close()

    uvloop.run(write_to_a_closed_connection())


def test_what_the_guard_reaches_into_is_there() -> None:
    assert str(inspect.signature(AIOKafkaConnection.send)) == "(self, request, expect_response=True)"
    assert "self._client = AIOKafkaClient(" in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "self.client = AIOKafkaClient(" in inspect.getsource(AIOKafkaProducer.__init__)
    source = inspect.getsource(AIOKafkaClient)
    assert "async def _get_conn(self, node_id, *, group=ConnectionGroup.DEFAULT, no_hint=False):" in source


class Started(Exception):
    """A client was about to be started."""


def guarded(client: Any) -> bool:
    return str(client._get_conn.__qualname__).startswith("guard.")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The clients of Kafka that were begun to be started."""
    found: list[Any] = []

    async def start(self: Any) -> None:
        found.append(getattr(self, "client", None) or self._client)
        self._closed = True  # else it complains that nobody has stopped it
        raise Started

    monkeypatch.setattr(AIOKafkaProducer, "start", start)
    monkeypatch.setattr(AIOKafkaConsumer, "start", start)
    return found


KAFKA = {"bootstrap_servers": "127.0.0.1:1"}


async def test_producers_and_consumers_of_workers_and_gateways_are_guarded(started: list[Any]) -> None:
    with pytest.raises(Started):
        await BatchProducer(KAFKA).start()
    with pytest.raises(Started):
        await KafkaSender(KAFKA, "connections", "acks").start()
    with pytest.raises(Started):
        await Follower(KAFKA, "revocations").run(lambda _: None, lambda: None)
    assert len(started) == 3
    assert all(map(guarded, started))


async def test_the_consumer_of_a_worker_is_guarded(tmp_path: Path) -> None:
    consumer = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2).consumer
    thread = consumer._thread
    client = thread._create_worker_consumer(consumer.transport)
    client._closed = True  # else it complains that nobody has stopped it
    assert guarded(client._client)
    thread.thread_loop.close()  # the loop of a thread that was never started
