"""Gathers what `tocsin doctor` wants to know of this machine, Redis, the store and the gateways."""

import asyncio
import contextlib
import re
import resource
import secrets
import sqlite3
import sys
import time
from datetime import UTC
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

from redis.exceptions import ResponseError

from cli.bus import bus_client, gateways, inquire, workers
from cli.doctor import findings
from cli.doctor.findings import GatewayFacts, RedisFacts
from cli.outputs import Finding
from schemas import bus
from schemas.errors import StoreBehind
from store.cluster import Address, connect
from store.urls import migrations, open_store, parse
from streams.settings import Settings

HEAR: Final = 1.0  # s in which a message to a probe channel has to come back
_PINNED: Final = re.compile(r"([A-Za-z0-9_.-]+)==([^;\s]+)$")


def examine_machine(settings: Settings) -> list[Finding]:
    """Return the findings about Python, packages and limits."""
    pins = [found.groups() for line in requires("tocsin") or [] if (found := _PINNED.match(line))]
    pinned = {name: (wanted, _installed(name)) for name, wanted in pins}
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    files = sys.maxsize if limit == resource.RLIM_INFINITY else limit
    return [
        *findings.judge_packages(sys.version_info[:2], pinned),
        findings.judge_files(files, settings.sessions),
    ]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


async def examine_redis(settings: Settings) -> list[Finding]:
    """Return the findings about Redis and the gateways. Raises `TocsinError` where Redis cannot be reached."""
    async with bus_client(settings) as client:
        begun = time.time()
        seconds, micros = await client.time()
        off = seconds + micros / 1e6 - (begun + time.time()) / 2
        facts = RedisFacts(
            version=str((await _info(client)).get("redis_version", "not shown")),
            off=off,
            heard=await _heard(client, settings.prefix),
            policy=await _config(client, "maxmemory-policy"),
            limited=(await _config(client, "maxmemory")) not in (None, "0"),
            pubsub=await _config(client, "client-output-buffer-limit"),
        )
        lanes = findings.judge_workers(await workers(client, settings.prefix))
        leases = await gateways(client, settings.prefix)
        silent: list[str] = []
        if leases:  # a user that nobody has: only whether they answer is of interest
            silent = (await inquire(client, settings.prefix, "", device="", session="", end=False)).silent
    alive = [GatewayFacts(name, one.sessions, sum(one.partitions.values())) for name, one in leases.items()]
    return findings.judge_redis(facts) + lanes + findings.judge_gateways(alive, silent)


async def _info(client: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await client.info("server")
    except ResponseError:  # not allowed
        return {}
    return found


async def _config(client: Any, name: str) -> str | None:
    try:
        found = await client.config_get(name)
    except ResponseError:  # not allowed
        return None
    return {_text(key): _text(value) for key, value in found.items()}.get(name)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def _heard(client: Any, prefix: str) -> bool:
    channel = bus.reply_channel(prefix, f"probe-{secrets.token_hex(4)}")
    with contextlib.suppress(ResponseError):  # not allowed
        async with client.pubsub() as listening:
            await listening.subscribe(channel)
            await listening.get_message(timeout=HEAR)  # Redis says that it is subscribed
            await client.publish(channel, b"probe")
            return await listening.get_message(ignore_subscribe_messages=True, timeout=HEAR) is not None
    return False


async def examine_store(settings: Settings) -> tuple[list[Finding], dict[str, int] | None]:
    """Return the findings about the store, and its incarnations, None where they cannot be read.

    Raises `TocsinError` where the store cannot be reached.
    """
    url = settings.store_url()
    pending = await migrations(url).pending()
    address = parse(url)
    if isinstance(address, Path):
        what, off = f"SQLite {sqlite3.sqlite_version}, {address}", None
    else:
        what, off = await asyncio.to_thread(_cassandra, address)
    found = findings.judge_store(what, off, pending)
    if pending:
        return found, None
    store = open_store(url)
    try:
        await store.open()
        return found, await store.incarnations()
    except StoreBehind:  # migrated away meanwhile
        return found, None
    finally:
        await store.close()


def _cassandra(address: Address) -> tuple[str, float]:
    session = connect(address)
    try:
        begun = time.time()
        release, now = session.execute("SELECT release_version, toTimestamp(now()) FROM system.local").one()
        off = now.replace(tzinfo=UTC).timestamp() - (begun + time.time()) / 2
    finally:
        session.cluster.shutdown()
    return f"Cassandra {release} at {address.names()}", off
