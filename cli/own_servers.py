"""A look at servers that `tocsin up` does not start: whether they answer and let us in, and what kind of Kafka it is.

One that is away is waited for, since it may be starting beside us; one that refuses is an error at once.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import redis.asyncio
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from redis.exceptions import RedisError

from cli.reach import redis_refusal, refusal
from schemas.addresses import host_port
from schemas.errors import ServerFailed
from stack.assembly import Kinds
from stack.waits import Waits, so_far
from store.urls import parse
from streams.security import without_password
from streams.settings import Settings

WITHIN: Final = 10.0  # s in which a server has to answer
_ATTEMPT: Final = 3.0  # s
_LOOK_EVERY: Final = 0.2  # s
_NO_IDS: Final = (-1, 35)  # Kafka's numbers for an error it has no name for, and a request that it does not know
_TRANSACTION_MS: Final = 60_000


class OwnKafka(msgspec.Struct, frozen=True):
    """A Kafka that runs already: the id of its cluster, and whether it gives ids to producers."""

    cluster: str
    idempotent: bool


async def meet(settings: Settings, kinds: Kinds, *, say: Callable[[str], None]) -> OwnKafka | None:
    """Return once all servers that are somebody's own answer; what is returned is said of Kafka, if it is one of them.

    Raises `ServerFailed`, one line, where one does not answer or does not let us in.
    """
    found: list[OwnKafka] = []

    async def kafka() -> str | None:
        kafka = await _kafka(settings)
        if isinstance(kafka, OwnKafka):
            found.append(kafka)
            return None
        return kafka

    if kinds.kafka == "own":
        await _until(f"kafka at {settings.kafka}", kafka, say)
    if kinds.redis == "own":
        await _until(f"redis at {without_password(settings.redis)}", lambda: _redis(settings), say)
    if kinds.store == "own":
        await _until(f"the store at {without_password(settings.store)}", lambda: _store(settings), say)
    return found[0] if found else None


async def _until(name: str, attempt: Callable[[], Awaitable[str | None]], say: Callable[[str], None]) -> None:
    """Repeat an attempt until it returns no reason for not working."""
    waits, begun = Waits(), time.monotonic()
    waits.began(name, begun)
    while reason := await attempt():
        now = time.monotonic()
        if now - begun > WITHIN:
            raise ServerFailed(f"{name} does not answer: {reason}; does it run there?")
        for _, taken in waits.overdue(now):
            say(so_far(f"waiting for {name}", taken, reason))
        await asyncio.sleep(_LOOK_EVERY)


async def _kafka(settings: Settings) -> OwnKafka | str:
    """Return what there is, or why it does not answer. Raises `ServerFailed` if it refuses us."""
    options = settings.kafka_options()
    first, reason = await _first_that_answers(settings.kafka, options)
    if first is None:
        if refused := await refusal(options, closing=True):
            raise ServerFailed(refused)
        return reason
    try:
        async with asyncio.timeout(WITHIN):
            metadata: Any = await first.send(MetadataRequest([]))
            idempotent = await _gives_ids(first)
    except (KafkaError, OSError, TimeoutError) as exc:
        return _said(exc)
    finally:
        first.close()
    advertised = ",".join(host_port(broker[1], broker[2]) for broker in metadata.brokers)
    if not advertised:
        return "it has no brokers yet"
    reached, reason = await _first_that_answers(advertised, options)
    if reached is None:
        return f"it sends clients to {advertised} (its advertised.listeners), where nobody answers ({reason})"
    reached.close()
    return OwnKafka(metadata.cluster_id or "unknown", idempotent)


async def _first_that_answers(hosts: str, options: dict[str, Any]) -> tuple[AIOKafkaConnection | None, str]:
    reason = ""
    rest = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    for host, port, _ in collect_hosts(hosts, randomize=False):
        try:
            async with asyncio.timeout(_ATTEMPT):
                return await create_conn(host, port, request_timeout_ms=int(WITHIN * 1000), **rest), ""
        except (OSError, KafkaError, TimeoutError) as exc:
            reason = _said(exc)
    return None, reason


async def _gives_ids(connection: AIOKafkaConnection) -> bool:
    try:
        answer: Any = await connection.send(
            InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=_TRANSACTION_MS)
        )
    except IncompatibleBrokerVersion:
        return False
    return answer.error_code not in _NO_IDS


async def _redis(settings: Settings) -> str | None:
    url = settings.redis_url()
    if refused := await redis_refusal(url):
        raise ServerFailed(refused)
    client: Any = redis.asyncio.Redis.from_url(url, socket_timeout=_ATTEMPT, socket_connect_timeout=_ATTEMPT)
    try:
        await client.ping()
    except (RedisError, OSError, TimeoutError) as exc:
        return _said(exc)
    finally:
        await client.aclose()
    return None


async def _store(settings: Settings) -> str | None:
    """Look whether somebody listens; who is let in, `tocsin store apply` finds out."""
    address = parse(settings.store)
    if isinstance(address, Path):
        return None
    reason = ""
    for host, port in address.hosts:
        try:
            async with asyncio.timeout(_ATTEMPT):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError) as exc:
            reason = _said(exc)
        else:
            writer.close()
            return None
    return reason


def _said(exc: BaseException) -> str:
    """Return why, in the system's own words: those of the event loop hold Python's notation of the address."""
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    root = exc.__cause__ or exc.__context__ or exc
    if isinstance(root, OSError) and root.errno and not isinstance(root, socket.gaierror):
        return os.strerror(root.errno)
    return getattr(root, "strerror", None) or str(root) or type(root).__name__
