"""Reaching the gateways from the command line: which live, and what they answer over Redis."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from cli.kafka import Unreachable
from schemas import bus
from schemas.bus import Found, Inquiry, WorkerLease
from streams.settings import Settings

REACH: Final = 3.0  # s in which Redis has to answer
PATIENCE: Final = 1.0  # s that gateways have; one answers within some ms


class Lease(msgspec.Struct, frozen=True):
    """What a gateway says of itself in Redis for as long as it lives."""

    url: str
    sessions: int
    partitions: dict[str, int] = {}  # by worker: how many partitions it has said that it owns


class Roll(msgspec.Struct, frozen=True):
    """The answers to an inquiry, and the gateways that live and did not answer."""

    found: list[Found]
    silent: list[str]


@asynccontextmanager
async def bus_client(settings: Settings) -> AsyncIterator[Any]:
    """Give a client of Redis. Raises `Unreachable`, also for what fails inside."""
    client: Any = redis.asyncio.Redis.from_url(
        settings.redis_url(), socket_timeout=REACH, socket_connect_timeout=REACH, protocol=2
    )
    try:
        await client.ping()
        yield client
    except (RedisError, OSError, TimeoutError) as exc:
        raise Unreachable(f"Redis (TOCSIN_REDIS) does not do what is asked: {exc}") from None
    finally:
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()


async def gateways(client: Any, prefix: str) -> dict[str, Lease]:
    """Return the gateways that live, by id."""
    begin = bus.lease_key(prefix, "")
    names = [key.decode().removeprefix(begin) async for key in client.scan_iter(match=f"{begin}*", count=1000)]
    values = await client.mget([begin + name for name in names]) if names else []
    return {
        name: msgspec.json.decode(value, type=Lease)
        for name, value in sorted(zip(names, values, strict=True))
        if value is not None
    }


async def workers(client: Any, prefix: str) -> list[WorkerLease]:
    """Return what the workers that live say of themselves, by name."""
    begin = bus.worker_key(prefix, "")
    keys = sorted([key async for key in client.scan_iter(match=f"{begin}*", count=1000)])
    values = await client.mget(keys) if keys else []
    return [msgspec.json.decode(value, type=WorkerLease) for value in values if value is not None]


async def inquire(client: Any, prefix: str, user: str, *, device: str, session: str, end: bool) -> Roll:
    """Ask all gateways for the sessions of a user, and end these where `end` says so."""
    alive = set(await gateways(client, prefix))
    channel = bus.reply_channel(prefix, secrets.token_hex(8))
    found: dict[str, Found] = {}
    async with client.pubsub() as listening:
        await listening.subscribe(channel)
        await listening.get_message(timeout=REACH)  # Redis says that it is subscribed
        inquiry = Inquiry(reply=channel, user=user, device=device, session=session, end=end)
        await client.publish(bus.beat_channel(prefix), bus.encode(inquiry))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while alive - found.keys():
                    message = await listening.get_message(ignore_subscribe_messages=True, timeout=PATIENCE)
                    if message is not None:
                        answer = bus.decode_found(message["data"])
                        found[answer.gateway] = answer
    return Roll([found[name] for name in sorted(found)], sorted(alive - found.keys()))
