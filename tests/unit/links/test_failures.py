"""Every error of the clients of Kafka and Redis has been decided about; a new one fails here until somebody has."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions
from aiokafka import errors
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from links import kafka_failures
from links import redis as links_redis
from links.redis import LOST, guard
from schemas.errors import Kind


def tree(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for one in base.__subclasses__():
        yield from tree(one)


@pytest.mark.parametrize("error", sorted(set(tree(KafkaError)), key=str))
def test_every_error_of_kafkas_client_is_decided(error: type[KafkaError]) -> None:
    assert error in kafka_failures.TABLE


@pytest.mark.parametrize(
    "error", sorted((e for e in set(tree(RedisError)) if e.__module__ == "redis.exceptions"), key=str)
)
def test_every_error_of_redis_client_is_decided(error: type[RedisError]) -> None:
    assert error in links_redis.TABLE


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.KafkaConnectionError("gone"), Kind.AWAY),
        (errors.NotLeaderForPartitionError(), Kind.AWAY),
        (errors.NotEnoughReplicasError(), Kind.AWAY),
        (errors.GroupLoadInProgressError(), Kind.AWAY),
        (errors.UnknownError(), Kind.AWAY),
        (errors.for_code(1234)(), Kind.AWAY),
        (errors.TopicAuthorizationFailedError("t"), Kind.BARRED),
        (errors.UnknownTopicOrPartitionError(), Kind.BARRED),
        (errors.MessageSizeTooLargeError(), Kind.REFUSED),
        (errors.for_code(10)(), Kind.REFUSED),
        (errors.for_code(87)(), Kind.REFUSED),
        (errors.RecordTooLargeError(), Kind.REFUSED),
        (errors.ProducerFenced(), Kind.CLIENT),
        (errors.OutOfOrderSequenceNumber(), Kind.CLIENT),
        (KafkaError("Unexpected error during batch delivery"), Kind.CLIENT),
    ],
)
def test_kinds_of_kafka(error: KafkaError, kind: Kind) -> None:
    assert kafka_failures.kind(error) is kind


def test_an_error_that_nobody_knows_is_what_its_base_is() -> None:
    class NewError(errors.KafkaTimeoutError):  # type: ignore[misc]  # aiokafka has no type information
        pass

    assert kafka_failures.kind(NewError()) is Kind.AWAY


def test_a_refusal_decides_about_work_that_failed_in_several_ways() -> None:
    refused = errors.MessageSizeTooLargeError()
    assert kafka_failures.worst([errors.KafkaConnectionError(), refused]) is refused
    assert kafka_failures.worst([]) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (redis.exceptions.ConnectionError(), Kind.AWAY),
        (redis.exceptions.BusyLoadingError(), Kind.AWAY),
        (redis.exceptions.ReadOnlyError(), Kind.AWAY),
        (redis.exceptions.NoPermissionError(), Kind.BARRED),
        (redis.exceptions.OutOfMemoryError(), Kind.BARRED),
        (redis.exceptions.ResponseError("ERR invalid bulk length"), Kind.REFUSED),
        (redis.exceptions.DataError(), Kind.OURS),
        (OSError(), Kind.AWAY),
        (RuntimeError("ours"), Kind.OURS),
        (KafkaError("also a RuntimeError"), Kind.OURS),
    ],
)
def test_kinds_of_redis(error: BaseException, kind: Kind) -> None:
    assert links_redis.kind(error) is kind
    assert isinstance(error, LOST) == (kind is not Kind.OURS)


class Closed:
    """The transport of a connection that Redis has just closed, as uvloop has it."""

    def writelines(self, _: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    def close(self) -> None:
        return


async def test_uvloops_word_for_a_closed_connection_becomes_the_clients_own() -> None:
    pool: Any = redis.asyncio.ConnectionPool.from_url("redis://127.0.0.1:1/0")
    guard(pool)
    connection: Any = pool.make_connection()
    connection._reader, connection._writer = object(), Closed()
    with pytest.raises(redis.exceptions.ConnectionError, match="was closed"):
        await connection.send_command("PING", check_health=False)


async def test_a_runtime_error_of_ours_is_not_turned_into_one_of_redis() -> None:
    """What is raised while a command is made is none of the connection's."""
    pool: Any = redis.asyncio.ConnectionPool.from_url("redis://127.0.0.1:1/0")
    guard(pool)
    connection: Any = pool.make_connection()

    def ours(*_: object) -> bytes:
        raise RuntimeError("ours")

    connection.pack_command = ours
    with pytest.raises(RuntimeError, match="ours"):
        await connection.send_command("PING")
