"""The batch producer on a real Kafka: what is refused leaves no trace, a client that is beyond use is replaced."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from schemas.errors import Kind
from stack.servers import Kafka
from streams.failures import kind
from streams.producer import BatchProducer, Emit

SMALL = 1_000  # bytes of a batch

_names = itertools.count(1)


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    """A topic that takes small batches only, and no record without a key."""
    name = f"small-{next(_names)}"
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await client.start()
    config = {"max.message.bytes": str(SMALL), "cleanup.policy": "compact"}
    await client.create_topics([NewTopic(name, 2, 1, topic_configs=config)])
    await client.close()
    return name


@pytest.fixture
async def producer(kafka: Kafka) -> AsyncIterator[BatchProducer]:
    producer = BatchProducer({"bootstrap_servers": kafka.address})
    await producer.start()
    yield producer
    await producer.stop()


async def written(kafka: Kafka, topic: str, partition: int, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        assert (await consumer.end_offsets([place]))[place] == count
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


def emit(topic: str, value: bytes, *, key: bytes | None = b"k") -> Emit:
    return Emit(topic, key, value, partition=0)


async def test_what_follows_a_refusal_is_written(kafka: Kafka, producer: BatchProducer, topic: str) -> None:
    for number in range(3):
        await producer.emit([emit(topic, b"%d" % number)])
        for size in (SMALL, 600_000, 3_000_000):  # for the topic, for a batch, for a request
            with pytest.raises(KafkaError) as caught:
                await producer.emit([emit(topic, bytes(size)), emit(topic, b"behind it")])
            assert kind(caught.value) is Kind.REFUSED
        with pytest.raises(KafkaError, match="InvalidRecord") as caught:
            await producer.emit([emit(topic, b"no key", key=None)])
        assert kind(caught.value) is Kind.REFUSED
    assert await written(kafka, topic, 0, 3) == [b"0", b"1", b"2"]


async def test_a_client_that_has_lost_count_is_replaced(kafka: Kafka, producer: BatchProducer, topic: str) -> None:
    await producer.emit([emit(topic, b"first")])
    client: Any = producer._producer
    client._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 7)
    await producer.emit([emit(topic, b"second")])
    assert producer._producer is not client
    assert await written(kafka, topic, 0, 2) == [b"first", b"second"]


async def test_a_client_whose_sender_has_ended_is_replaced(kafka: Kafka, producer: BatchProducer, topic: str) -> None:
    await producer.emit([emit(topic, b"first")])
    producer._producer._sender._message_accumulator.drain_by_nodes = None  # a fault in it
    for _ in range(2):  # the one that ends it, and one that finds it ended
        with contextlib.suppress(KafkaError):
            await producer.emit([])
            await producer._producer.send_and_wait(topic, b"lost", b"k", partition=0)
    with contextlib.suppress(KafkaError):
        await producer.emit([emit(topic, b"second")])
    await producer.emit([emit(topic, b"third")])
    assert (await written(kafka, topic, 0, 2))[-1] == b"third"
