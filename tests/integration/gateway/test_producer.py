"""Writing to a real Kafka."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.outbox import Record
from gateway.producer import KafkaSender
from schemas.errors import TocsinError
from stack.servers import Kafka

TOPIC, ACKS = "gw-connections", "gw-acks"


@pytest.fixture(scope="module")
def broker(kafka: Kafka) -> Kafka:
    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.create_topics([NewTopic(name, 3, 1) for name in (TOPIC, ACKS)])
        await admin.close()

    asyncio.run(make())
    return kafka


@pytest.fixture
async def sender(broker: Kafka) -> AsyncIterator[KafkaSender]:
    one = KafkaSender({"bootstrap_servers": broker.address}, TOPIC, ACKS)
    assert await one.start() == 3
    yield one
    await one.stop()


async def read(broker: Kafka, partition: int, count: int, topic: str = TOPIC) -> list[Record]:
    """Return the last `count` records of a partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.address)
    await consumer.start()
    place = TopicPartition(topic, partition)
    consumer.assign([place])
    end = (await consumer.end_offsets([place]))[place]
    consumer.seek(place, end - count)
    found = [await consumer.getone() for _ in range(count)]
    await consumer.stop()
    return [(record.key, record.value) for record in found]


async def test_records_arrive_in_order_in_their_partition(broker: Kafka, sender: KafkaSender) -> None:
    records = [(b"u%d" % n, b"v%d" % n) for n in range(100)]
    await sender.send(2, records)
    assert await read(broker, 2, 100) == records


async def test_acknowledgements_have_a_topic_of_their_own(broker: Kafka, sender: KafkaSender) -> None:
    await sender.send(2, [(b"u", b"an ack")], acks=True)
    assert await read(broker, 2, 1, ACKS) == [(b"u", b"an ack")]


async def test_more_than_one_batch_holds_arrives_in_order(broker: Kafka, sender: KafkaSender) -> None:
    records = [(b"u%d" % n, b"v" * 200_000) for n in range(10)]
    await sender.send(1, records)
    assert await read(broker, 1, 10) == records


async def test_what_is_written_while_kafka_is_away_arrives_when_it_is_back(broker: Kafka, sender: KafkaSender) -> None:
    await sender.send(0, [(b"u", b"1")])
    broker.kill()
    sending = asyncio.ensure_future(sender.send(0, [(b"u", b"2"), (b"u", b"3")]))
    broker.restart()  # blocks the loop for some seconds; servers are started in the main thread
    async with asyncio.timeout(60):
        await sending
    assert [value for _, value in await read(broker, 0, 3)] == [b"1", b"2", b"3"]


async def test_a_producer_that_failed_is_replaced(broker: Kafka, sender: KafkaSender) -> None:
    with pytest.raises(TocsinError, match="did not take"):
        await sender.send(0, [(b"u", b"x" * 3_000_000)])
    await sender.send(0, [(b"u", b"4")])
    assert (await read(broker, 0, 1))[0] == (b"u", b"4")


async def test_a_topic_that_is_missing_and_a_broker_that_is_not_there_are_said(broker: Kafka, free_port: int) -> None:
    with pytest.raises(TocsinError, match="no topic gw-missing; `tocsin topics apply` makes it"):
        await KafkaSender({"bootstrap_servers": broker.address}, TOPIC, "gw-missing").start()
    with pytest.raises(TocsinError, match=f"Kafka at 127.0.0.1:{free_port} cannot be used"):
        await KafkaSender({"bootstrap_servers": f"127.0.0.1:{free_port}"}, TOPIC, ACKS).start()
