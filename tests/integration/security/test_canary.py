"""No log, page, status or error shows what is secret or private, at the level `debug` and whatever goes wrong."""

import asyncio
import json
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from gateway.outbox import partition_of
from schemas import bus
from streams.settings import Settings, read_settings
from tests.integration.security.conftest import SECRET, Deployment
from tests.integration.security.servers import KAFKA_PASSWORD, PREFIX, REDIS_PASSWORD, STORE_PASSWORD
from tests.terminal import Listener

CANARY = "canary-7f3a"  # in every text of a producer or a client that is nobody else's business
TOKEN = jwt.encode({"sub": "ann", "exp": time.time() + 600}, "the key of somebody else, and a long one")
PASSWORDS = (KAFKA_PASSWORD, REDIS_PASSWORD, STORE_PASSWORD)
WITHIN = 60.0  # s

BAD_RECORDS = (
    f"{{not json {CANARY}",
    f'{{"user": "ann", "title": ["{CANARY}"]}}',
    f'{{"user": "ann", "title": "{CANARY}", "expires_at": "{CANARY}"}}',
    f'{{"user": "somebody else", "title": "{CANARY}"}}',
    f'{{"user": "ann", "title": "{CANARY}", "v": 7}}',
    f'{{"user": "ann", "title": "{CANARY}{"x" * 70_000}"}}',
)
CONFLICTS = (
    f'{{"id": "c", "user": "ann", "title": "{CANARY} 1"}}',
    f'{{"id": "c", "user": "ann", "title": "{CANARY} 2"}}',
)
EXPIRED = f'{{"id": "e", "user": "ann", "title": "{CANARY}", "expires_at": "2020-01-01T00:00:00Z"}}'
BAD_CONTROLS = (f'{{"type": "{CANARY}"}}', f'{{"type": "connected", "user": "{CANARY}"}}', CANARY)
BAD_FRAMES: tuple[str | bytes, ...] = (
    CANARY,
    json.dumps({"type": CANARY}),
    json.dumps({"type": "ack", "log": CANARY, "seq": 1}),
    json.dumps({"type": "ack", "log": "inbox/normal", "seq": CANARY}),
    json.dumps({"type": "refresh", "token": TOKEN}),
    json.dumps({"type": "hello", "device": CANARY}),
    json.dumps({"type": "hello", "token": TOKEN}),
    CANARY.encode(),
)


def settings_of(deployment: Deployment) -> Settings:
    return read_settings({name: value for name, value in deployment.variables.items() if name.startswith("TOCSIN_")})


async def produce(settings: Settings, topic: str, values: Sequence[str], partition: int) -> None:
    async with AIOKafkaProducer(**settings.kafka_options(), max_request_size=2**21) as producer:
        for value in values:
            await producer.send_and_wait(f"{PREFIX}{topic}", value.encode(), b"ann", partition)


async def count(settings: Settings, topic: str) -> int:
    async with AIOKafkaConsumer(f"{PREFIX}{topic}", **settings.kafka_options()) as consumer:
        return sum((await consumer.end_offsets(list(consumer.assignment()))).values())


async def said_to(deployment: Deployment, token: str, frames: Sequence[str | bytes]) -> list[str]:
    """Say frames and return what comes back until the gateway closes or nothing more is to come."""
    said = []
    context = ssl.create_default_context(cafile=str(deployment.floor.ours.certificate))
    async with connect(f"{deployment.url}?token={token}", ssl=context) as socket:
        said.append(str(await socket.recv()))
        try:
            for frame in frames:
                await socket.send(frame)
            while True:
                said.append(str(await socket.recv()))
        except ConnectionClosed as exc:
            said.append(str(exc))
    return said


async def _end(socket: ClientConnection) -> str:
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as exc:
        return str(exc)


async def refusals(deployment: Deployment) -> list[str]:
    """Knock with tokens and heads that are not let in; return what is said to that."""
    context = ssl.create_default_context(cafile=str(deployment.floor.ours.certificate))
    said = []
    offer, bearer = ["tocsin", f"tocsin.token.{TOKEN}"], {"Authorization": f"Bearer {TOKEN}"}
    queries = (f"token={TOKEN}", f"token={CANARY}", f"token={CANARY}&token={TOKEN}", f"{CANARY}={CANARY}", "")
    ways: list[dict[str, Any]] = [{}, {"additional_headers": bearer}, {"subprotocols": offer}]
    for query, way in [*((query, {}) for query in queries), *(("", way) for way in ways)]:
        async with connect(f"{deployment.url}?{query}", ssl=context, **way) as socket:
            said.append(await _end(socket))
    async with connect(f"{deployment.url}?hello=1", ssl=context) as socket:
        await socket.send(json.dumps({"type": "hello", "token": TOKEN, "device": CANARY}))
        said.append(await _end(socket))
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{deployment.url}?token={TOKEN}", ssl=context, origin=Origin("https://evil.example"))
    said.append(bytes(refused.value.response.body).decode())
    host, _, port = deployment.url.removeprefix("wss://").partition("/")[0].partition(":")
    for head in (f"{CANARY}\r\n\r\n", f"GET /ws?token={CANARY} HTTP/1.1\r\n{CANARY}\r\n\r\n", CANARY * 3_000):
        for tls in (context, None):  # without TLS it is a broken handshake
            reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
            writer.write(head.encode())
            writer.write_eof() if tls is None else None
            said.append((await reader.read()).decode("latin-1"))
            writer.close()
    return said


async def until(condition: Any) -> None:
    async with asyncio.timeout(WITHIN):
        while not await condition():  # noqa: ASYNC110 - the servers tell nobody
            await asyncio.sleep(0.2)


async def provoke(deployment: Deployment, settings: Settings) -> str:
    """Let everything go wrong that can; return all that was said to clients about it."""
    home = partition_of("ann", 4)
    await produce(settings, "notifications.normal", [*BAD_RECORDS, *CONFLICTS, EXPIRED], home)
    await produce(settings, "notifications.normal", [CONFLICTS[0]], (home + 1) % 4)  # not at home
    await produce(settings, "connections", BAD_CONTROLS, home)
    said = [*await refusals(deployment)]
    for frame in BAD_FRAMES:
        said += await said_to(deployment, deployment.token("ann"), [frame, "x" * 70_000])
    with redis.Redis.from_url(settings.redis_url()) as client:
        client.publish(bus.beat_channel(PREFIX), CANARY.encode())
        client.publish(bus.beat_channel(PREFIX), b"\x93" + CANARY.encode())
    deployment.floor.redis.restart()  # all connections to it break

    async def judged() -> bool:
        return await count(settings, "dead-letters") >= 10 and await count(settings, "statuses") >= 1

    await until(judged)
    # a client is told its own notifications, and which type of its own is unknown
    return "\n".join(text for text in said if '"type":"notification"' not in text and '"unknown_type"' not in text)


def files(folder: Path) -> dict[str, str]:
    """All that is written in the folder of a deployment: logs, ready files, tables."""
    return {str(path): path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()}


def test_nothing_that_is_secret_or_private_is_shown(deployment: Deployment) -> None:
    settings = settings_of(deployment)
    with Listener(deployment, "ann", "--device", "canary") as phone:
        phone.connected()
        note = ("send", "ann", f"body {CANARY}", "--title", f"title {CANARY}", "--data", f'{{"data": "{CANARY}"}}')
        assert deployment.tocsin(*note).returncode == 0
        phone.wait(1)
        said = asyncio.run(provoke(deployment, settings))
        phone.wait(2)
    shown = {**files(deployment.folder), "pages": deployment.metrics(), "said to clients": said}
    shown["config"] = deployment.tocsin("config").stdout + deployment.tocsin("config", "--json").stdout
    shown["repr"] = repr(settings)
    assert "WARNING" in "".join(text for name, text in shown.items() if name.endswith(".log"))  # something went wrong
    secrets = [CANARY, TOKEN, TOKEN.rpartition(".")[2], SECRET, *PASSWORDS, *map(quote, PASSWORDS)]
    secrets += [quote(password, safe="") for password in PASSWORDS]
    leaks = [(name, secret) for name, text in shown.items() for secret in secrets if secret in text]
    assert not leaks
