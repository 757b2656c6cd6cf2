"""The publisher on a real Redis: what arrives, what a Redis that is away costs, and how a gateway dies."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry

from agents import publisher as module
from agents.lease import Lease
from agents.publisher import TIMEOUT, Publisher
from cli.bus import workers
from schemas import bus
from schemas.bus import Beat, Delivery, Heard, Packed, Part, Run, WorkerLease
from stack.servers import Redis
from telemetry.worker import WorkerMetrics

WITHIN = 5.0  # s
PARTS = [Part(3, 7, deliveries=[Delivery("ann", ["s"], [Run("inbox/normal", 1, 1, 1, b"{}")])])]

_prefixes = itertools.count(1)


def url_of(server: Redis) -> str:
    return server.address if "://" in server.address else f"redis://{server.address}/0"


@pytest.fixture
async def publisher(redis_server: Redis) -> AsyncIterator[Publisher]:
    one = Publisher(url_of(redis_server), f"p{next(_prefixes)}.", "w1", WorkerMetrics(CollectorRegistry()))
    yield one
    await one.close()


class Gateway:
    """Listens as a gateway does."""

    def __init__(self, client: Any, pubsub: Any) -> None:
        self.client = client
        self._pubsub = pubsub

    async def next(self) -> bus.Message:
        async with asyncio.timeout(WITHIN):
            while True:
                message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=WITHIN)
                if message is not None:
                    found: bus.Message = bus.decode(message["data"])
                    return found


@pytest.fixture
async def gateway(redis_server: Redis, publisher: Publisher) -> AsyncIterator[Gateway]:
    client: Any = redis.asyncio.from_url(url_of(redis_server))
    pubsub: Any = client.pubsub()
    prefix = publisher._prefix
    await pubsub.subscribe(bus.gateway_channel(prefix, "g1"), bus.beat_channel(prefix))
    for _ in range(2):
        await pubsub.get_message(timeout=WITHIN)
    yield Gateway(client, pubsub)
    await pubsub.aclose()
    await client.aclose()


async def test_messages_and_beats_arrive(publisher: Publisher, gateway: Gateway) -> None:
    publisher.own({3: 7})
    await publisher.publish({"g1": PARTS, "nobody": PARTS})
    await publisher.publish({"g1": PARTS})
    await publisher.beat()
    assert bus.encode(await gateway.next()) == bus.encode(Packed("w1", 1, PARTS))
    assert bus.encode(await gateway.next()) == bus.encode(Packed("w1", 2, PARTS))
    assert await gateway.next() == Beat("w1", {3: 7}, {"g1": 2, "nobody": 1})


async def test_a_gateway_dies_when_nobody_listens_and_its_lease_is_gone(
    publisher: Publisher, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_GONE", 0.3)
    monkeypatch.setattr(module, "RHYTHM", 0.01)
    monkeypatch.setattr(module, "BEAT_EVERY", 0.05)
    await gateway.client.set(bus.lease_key(publisher._prefix, "leased"), b"{}", ex=60)
    await publisher.publish({"g1": PARTS, "leased": PARTS, "gone": PARTS})
    beating = asyncio.create_task(publisher.beat_for_ever())
    async with asyncio.timeout(WITHIN):
        while not publisher.dead:
            await gateway.next()  # beats
    beating.cancel()
    assert publisher.dead == {"gone"}


async def test_a_redis_that_is_away_costs_no_more_than_its_timeout(free_port: int) -> None:
    registry = CollectorRegistry()
    away = Publisher(f"redis://127.0.0.1:{free_port}/0", "", "w1", WorkerMetrics(registry))
    begun = time.monotonic()
    await away.publish({"g1": PARTS})
    await away.beat()
    await away._look_after_suspects()
    assert time.monotonic() - begun < 3 * TIMEOUT + 1
    assert registry.get_sample_value("tocsin_publish_failures_total") == 2
    await away.close()


async def test_a_redis_that_hangs_holds_up_one_publish_and_not_the_next(
    redis_server: Redis, publisher: Publisher, gateway: Gateway
) -> None:
    await publisher.publish({"g1": PARTS})
    redis_server.pause()
    try:
        await publisher.publish({"g1": PARTS})
        begun = time.monotonic()
        for _ in range(50):
            await publisher.publish({"g1": PARTS})
        assert time.monotonic() - begun < TIMEOUT
    finally:
        redis_server.resume()
    await publisher.beat()
    await publisher.publish({"g1": PARTS})
    numbers: list[int] = []
    while 53 not in numbers:  # what was lost can be told from the number that follows
        message = await gateway.next()
        numbers += [message.number] if isinstance(message, Heard) else []
    assert set(numbers) <= {1, 2, 53}, "the second may have come late"


async def test_what_redis_does_not_permit_is_tried_again_and_is_no_fault_of_the_messages(
    publisher: Publisher, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    await publisher.publish({"g1": PARTS})
    await gateway.client.execute_command("ACL", "SETUSER", "default", "-publish")
    try:
        await publisher.publish({"g1": PARTS})
        assert publisher._link is module.Link.REFUSES
        assert "publish" in caplog.text
    finally:
        await gateway.client.execute_command("ACL", "SETUSER", "default", "+@all")
    assert await publisher.reaches()
    await publisher.publish({"g1": PARTS})
    numbers: list[int] = []
    while 3 not in numbers:
        message = await gateway.next()
        numbers += [message.number] if isinstance(message, Heard) else []
    assert numbers == [1, 3]


async def test_a_lease_of_a_worker_is_left_out_while_redis_has_no_memory_and_comes_back(
    redis_server: Redis, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    said = WorkerLease("w1", 4)
    lease = Lease(url_of(redis_server), "lease.", "w1", lambda: said)
    await gateway.client.config_set("maxmemory", "1")
    try:
        await lease.renew()
        await lease.renew()
    finally:
        await gateway.client.config_set("maxmemory", "0")
    assert caplog.text.count("Redis does not take what this worker says of itself") == 1
    assert await workers(gateway.client, "lease.") == []
    await lease.renew()
    assert await workers(gateway.client, "lease.") == [said]
    await lease.close()
    assert await workers(gateway.client, "lease.") == []
