"""The servers of experiments: two doors to Kafka, and servers that come back with their data."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from proof.servers import Servers

SOON = 10.0  # s


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("servers")) as made:
        yield made


async def make_topic(brokers: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()


@pytest.fixture
async def topic(servers: Servers, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    await servers.start("kafka")
    name = request.node.name.replace("[", "-").replace("]", "")
    await make_topic(servers.address("kafka"), name)
    yield name
    await servers.heal()


async def test_who_comes_in_by_the_proxy_stays_behind_it_and_the_others_never_meet_it(
    servers: Servers, topic: str
) -> None:
    async with servers.proxy("kafka") as proxy:
        behind = AIOKafkaProducer(bootstrap_servers=servers.address("kafka", proxied=True))
        direct = AIOKafkaProducer(bootstrap_servers=servers.address("kafka"))
        await behind.start()
        await direct.start()
        try:
            await behind.send_and_wait(topic, b"x" * 10_000)
            assert proxy.passed["to_server"] > 10_000
            proxy.hang()
            waiting = asyncio.ensure_future(behind.send_and_wait(topic, b"later"))
            met = await asyncio.wait_for(direct.send_and_wait(topic, b"now"), SOON)
            assert met.offset == 1
            assert not waiting.done()
            await proxy.heal()
            assert (await asyncio.wait_for(waiting, SOON)).offset == 2
        finally:
            await behind.stop()
            await direct.stop()


async def test_a_killed_broker_comes_back_with_what_it_had(servers: Servers, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers.address("kafka"), acks="all")
    await producer.start()
    try:
        assert (await producer.send_and_wait(topic, b"before")).offset == 0
        before = servers.pid("kafka")
        await servers.kill("kafka")
        await servers.start("kafka")
        assert servers.pid("kafka") != before
        assert (await producer.send_and_wait(topic, b"after")).offset == 1
    finally:
        await producer.stop()


async def test_heal_brings_back_what_was_frozen_or_ended(servers: Servers) -> None:
    await servers.start("redis")
    servers.freeze("redis")
    await servers.heal()
    await servers.start("redis")
    await servers.kill("redis")
    await servers.heal()
    reader, writer = await asyncio.open_connection("127.0.0.1", servers.redis.port)
    writer.write(b"PING\r\n")
    assert await asyncio.wait_for(reader.readline(), SOON) == b"+PONG\r\n"
    writer.close()
