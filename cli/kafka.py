"""Reaching the Kafka of the settings from the command line; a server that does not answer is one clear line."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, NodeNotReadyError

from cli.reach import refusal
from links import unpacking
from schemas.errors import TocsinError
from schemas.limits import record_limits
from streams.settings import Settings

REACH: Final = 10.0  # s in which a broker has to answer


class Unreachable(TocsinError):
    """A server that is needed does not answer."""


class Refused(TocsinError):
    """Kafka answered with an error."""


@asynccontextmanager
async def _reached(kafka: Mapping[str, Any]) -> AsyncIterator[None]:
    address = kafka["bootstrap_servers"]
    try:
        yield
    except (KafkaConnectionError, NodeNotReadyError, KafkaTimeoutError, TimeoutError):
        if reason := await refusal(kafka, closing=True):
            raise Refused(reason) from None
        raise Unreachable(
            f"Kafka does not answer at {address} (TOCSIN_KAFKA); is it running? `tocsin up --stack embedded` starts one"
        ) from None
    except KafkaError as exc:
        raise Refused(f"Kafka at {address} refused: {exc}") from exc


def hush() -> None:
    """Keep the client's own log lines off the terminal: what matters is said by the error that follows."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


@asynccontextmanager
async def admin(kafka: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give an admin client, made with the settings' `kafka_options()`.

    Raises `Unreachable` or `Refused`, also for what fails inside.
    """
    client = AIOKafkaAdminClient(**kafka, request_timeout_ms=int(REACH * 1000))
    async with _reached(kafka):
        try:
            async with asyncio.timeout(REACH):
                await client.start()
            yield client
        finally:
            await client.close()


async def require_topic(settings: Settings, topic: str) -> None:
    """Raise `Refused` unless Kafka has a topic. Looks among all: asking for one by name would make it where it may."""
    async with admin(settings.kafka_options()) as client:
        if topic not in await client.list_topics():
            raise Refused(f"Kafka at {settings.kafka} has no topic {topic}; `tocsin topics apply` makes it")


@asynccontextmanager
async def producer(kafka: Mapping[str, Any], *, idempotent: bool = True) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer that waits for all replicas, made with the settings' `kafka_options()`.

    Raises `Unreachable` or `Refused`, also for what fails inside.
    """
    client = AIOKafkaProducer(
        **kafka,
        acks="all",
        enable_idempotence=idempotent,
        linger_ms=2,
        request_timeout_ms=int(REACH * 1000),
    )
    async with _reached(kafka):
        try:
            async with asyncio.timeout(REACH):
                await client.start()
            yield client
        finally:
            await client.stop()


@asynccontextmanager
async def consumer(kafka: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a consumer of no group, made with the settings' `kafka_options()`; what it reads is assigned to it.

    Raises `Unreachable` or `Refused`, also for what fails inside.
    """
    unpacking.install(record_limits)
    client = AIOKafkaConsumer(
        **kafka,
        group_id=None,
        enable_auto_commit=False,
        request_timeout_ms=int(REACH * 1000),
        auto_offset_reset="earliest",
    )
    async with _reached(kafka):
        try:
            async with asyncio.timeout(REACH):
                await client.start()
            yield client
        finally:
            await client.stop()
