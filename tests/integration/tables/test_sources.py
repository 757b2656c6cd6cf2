"""Offsets that jump, fetches that get lost, two workers with one name: nothing is lost or counted twice."""

import asyncio
from collections import Counter

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.tables.conftest import COMPACTED, Counting, eventually


def test_fetches_that_get_lost_are_read_again(counting: Counting) -> None:
    counting.module = "tests.integration.tables.dropping_worker"
    counting.make_topics()
    counting.produce(each=10)
    counting.start()
    for _ in range(10):
        counting.produce(each=5)
    counting.finish()
    counting.stop()
    counting.check()
    assert "reading again" in counting.said


def transactions(counting: Counting, *, of: int, count: int) -> None:
    """Produce transactions of so many events each; every fifth is aborted, its events are for a user of their own."""

    async def produce() -> None:
        async with AIOKafkaProducer(bootstrap_servers=counting.brokers, transactional_id=counting.prefix) as producer:
            for number in range(count):
                aborted = number % 5 == 4
                await producer.begin_transaction()
                for place in range(of):
                    user = f"aborted-{number}-{place}" if aborted else f"u{(number * of + place) % 200}"
                    await producer.send(f"{counting.prefix}events", counting.event(user), key=user.encode())
                await (producer.abort_transaction() if aborted else producer.commit_transaction())

    asyncio.run(produce())


def test_transactions_leave_holes_that_are_no_loss(counting: Counting) -> None:
    counting.make_topics()
    transactions(counting, of=20, count=30)
    counting.start()
    transactions(counting, of=3, count=60)
    counting.produce(each=1)  # no partition ends with the mark of a transaction
    counting.finish()
    counting.stop()
    counting.check()


@pytest.mark.thorough  # the broker takes its time to compact
def test_what_compaction_has_removed_is_not_waited_for(counting: Counting) -> None:
    counting.make_topics(sources=COMPACTED)

    def compacted() -> bool:
        counting.produce(each=3, users=50)  # a segment is closed, and then compacted, only when another record comes
        return counting.count("events") < counting.produced

    eventually(compacted, within=180)
    counting.run()
    counting.produce(each=1)
    counting.run()
    assert counting.counted().keys() == counting.sent.keys()
    assert Counter({user: last.seq for user, last in counting.counted().items()}) == counting.sent


def test_the_older_of_two_workers_with_one_instance_id_ends_and_says_so(counting: Counting) -> None:
    counting.make_topics()
    counting.produce(each=2)
    counting.start()
    counting.finish()
    older = counting.worker
    counting.slot = "b"
    counting.start()
    counting.produce(each=2)
    eventually(lambda: not older.running)
    counting.produce(each=2)
    counting.finish()
    assert counting.worker.running
    counting.stop()
    counting.check()
    assert older.code == 1
    assert "another worker uses TOCSIN_INSTANCE=w" in counting.said
