import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.outbox import Outbox, Record
from gateway.producer import Writer
from schemas.errors import Refused, TocsinError
from schemas.records import Ack, Connected, SyncRequest
from telemetry.gateway import GatewayMetrics


class ShakySender:
    """Keeps what it is sent; fails as often as it is told, and waits while `closed` is not set."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.failures = 0
        self.open = asyncio.Event()
        self.open.set()
        self.at_once = 0
        self.wrote = asyncio.Semaphore(0)

    async def start(self) -> int:
        return 4

    async def stop(self) -> None:
        self.open.set()

    async def send(self, partition: int, records: list[Record], *, acks: bool = False) -> None:
        self.at_once += 1
        await self.open.wait()
        self.at_once -= 1
        if self.failures:
            self.failures -= 1
            raise TocsinError("not now")
        self.sent.append((partition, len(records)))
        self.wrote.release()


class World:
    def __init__(self) -> None:
        self.sender = ShakySender()
        self.outbox = Outbox("g", self.wake)
        self.writer = Writer(self.outbox, self.sender, GatewayMetrics(CollectorRegistry()))

    def wake(self) -> None:
        self.writer.wake()

    def connect(self, session: str, partition: int = 0) -> None:
        self.outbox.connected(partition, Connected(user="u1", session=session, gateway="g", device="d"))


async def test_what_is_urgent_is_written_soon_in_one_batch_a_partition() -> None:
    world = World()
    for n in range(3):
        world.connect(f"s{n}")
    world.connect("s9", 1)
    assert await world.writer.flush(1.0)
    assert sorted(world.sender.sent) == [(0, 3), (1, 1)]


async def test_acks_wait_for_others_and_urgent_ones_do_not_wait_for_them() -> None:
    world = World()
    world.outbox.acknowledge(0, Ack("u1", "d", "inbox/normal", 1, 0))
    world.outbox.sync(0, SyncRequest("u1", "s", "d", "inbox/normal", 0, 1))
    async with asyncio.timeout(2):
        await world.sender.wrote.acquire()
        assert world.sender.sent == [(0, 1)]
        assert world.outbox.acked == {0}
        await world.sender.wrote.acquire()
    assert world.sender.sent == [(0, 1), (0, 1)]


async def test_a_partition_has_one_batch_at_a_time_and_others_are_not_held_up() -> None:
    world = World()
    world.sender.open.clear()
    world.connect("s1")
    await asyncio.sleep(0.02)
    world.connect("s2")
    world.connect("s3")
    await asyncio.sleep(0.02)
    assert world.sender.at_once == 1
    world.connect("s4", 1)
    await asyncio.sleep(0.02)
    assert world.sender.at_once == 2
    world.sender.open.set()
    assert await world.writer.flush(1.0)
    assert sorted(world.sender.sent) == [(0, 1), (0, 2), (1, 1)]


async def test_a_batch_that_failed_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.producer.BACKOFF", (0.001, 0.002))
    world = World()
    world.sender.failures = 5
    world.connect("s1")
    assert await world.writer.flush(2.0)
    assert world.sender.sent == [(0, 1)]


async def test_a_kafka_that_takes_nothing_makes_the_gateway_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.producer.STALE", 0.02)
    world = World()
    assert world.writer.problem() is None
    world.sender.open.clear()
    world.connect("s1")
    assert not await world.writer.flush(0.1)
    assert world.writer.problem() == "Kafka does not take what the gateway writes"
    world.sender.open.set()
    assert await world.writer.flush(1.0)
    assert world.writer.problem() is None


@pytest.mark.parametrize(
    "refusal", [Refused("too large"), UnicodeEncodeError("utf-8", "x", 0, 1, "no"), AssertionError()]
)
async def test_a_record_that_cannot_be_written_is_found_and_dropped_alone(
    refusal: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Choosy(ShakySender):
        """Takes all but one record; `names` are those that it has."""

        def __init__(self) -> None:
            super().__init__()
            self.names: list[bytes] = []

        async def send(self, partition: int, records: list[Record], *, acks: bool = False) -> None:
            if any(b's7"' in value for _, value in records):
                raise refusal
            self.names += [value for _, value in records]

    world = World()
    world.sender = world.writer._sender = Choosy()
    for n in range(20):
        world.connect(f"s{n}")
    assert await world.writer.flush(5.0)
    assert len(world.sender.names) == 19
    assert world.sender.names == sorted(world.sender.names, key=lambda value: int(value.split(b'"s')[2].split(b'"')[0]))
    assert world.writer._metrics.dropped_records._value.get() == 1
    assert "dropped" in caplog.text
