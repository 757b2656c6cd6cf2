"""Reaching the Kafka of the settings from the command line; a server that does not answer is one clear line."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, NodeNotReadyError

from schemas.errors import TocsinError

REACH: Final = 10.0  # s in which a broker has to answer


class Unreachable(TocsinError):
    """A server that is needed does not answer."""


class Refused(TocsinError):
    """Kafka answered with an error."""


@asynccontextmanager
async def _reached(address: str) -> AsyncIterator[None]:
    try:
        yield
    except (KafkaConnectionError, NodeNotReadyError, KafkaTimeoutError, TimeoutError):
        raise Unreachable(
            f"Kafka does not answer at {address} (TOCSIN_KAFKA); is it running? `tocsin up --stack embedded` starts one"
        ) from None
    except KafkaError as exc:
        raise Refused(f"Kafka at {address} refused: {exc}") from exc


def hush() -> None:
    """Keep the client's own log lines off the terminal: what matters is said by the error that follows."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


@asynccontextmanager
async def admin(address: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give an admin client. Raises `Unreachable` or `Refused`, also for what fails inside."""
    client = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=int(REACH * 1000))
    async with _reached(address):
        try:
            async with asyncio.timeout(REACH):
                await client.start()
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def producer(address: str, *, idempotent: bool = True) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer that waits for all replicas. Raises `Unreachable` or `Refused`, also for what fails inside."""
    client = AIOKafkaProducer(
        bootstrap_servers=address,
        acks="all",
        enable_idempotence=idempotent,
        linger_ms=2,
        request_timeout_ms=int(REACH * 1000),
    )
    async with _reached(address):
        try:
            async with asyncio.timeout(REACH):
                await client.start()
            yield client
        finally:
            await client.stop()
