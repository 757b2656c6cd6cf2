"""TLS on the gateway's port: connections are counted from their first moment, and those that fail leave nothing.

tests/integration/security has the same port on uvloop, in whole processes."""

import asyncio
import ssl
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import websockets

from gateway.admission import AddressLimits
from gateway.bucket import Limits
from gateway.reloading import Certificate
from streams.security import server_context
from tests.integration.gateway.conftest import Client, Running, Start, until
from tests.integration.security.certificates import authority, certificate


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ssl.SSLContext]:
    folder = Path(tmp_path_factory.mktemp("keys"))
    ours = authority(folder, "authority")
    made = certificate(folder, "server", ours, names="IP:127.0.0.1")
    files = str(made.certificate), str(made.key)
    shown = Certificate(lambda: server_context(*files), files)
    return shown, ssl.create_default_context(cafile=str(ours.certificate))


async def secured(start: Start, keys: tuple[Any, ssl.SSLContext], **limits: Any) -> Running:
    return await start(tls=keys[0], addresses=AddressLimits(**{"exempt": (), **limits}))


async def speak(running: Running, keys: tuple[Any, ssl.SSLContext], user: str = "u1") -> None:
    url = running.url(user).replace("ws://", "wss://")
    async with websockets.connect(url, ssl=keys[1], ping_interval=None) as socket:
        client = Client(socket)
        assert (await client.next())["type"] == "welcome"
        await running.worker.append(user, "x" * 100_000, times=3)
        assert await client.seqs(3) == [1, 2, 3]


async def test_what_is_said_over_tls_arrives(start: Start, keys: tuple[Any, ssl.SSLContext]) -> None:
    running = await secured(start, keys)
    await asyncio.gather(*(speak(running, keys, f"u{number}") for number in range(20)))
    await until(lambda: not running.gateway.hub.sessions)
    await until(lambda: not running.gateway._connections)


async def test_frames_sent_along_with_the_request_are_not_lost(start: Start, keys: tuple[Any, ssl.SSLContext]) -> None:
    running = await secured(start, keys)
    target = running.url().partition(str(running.gateway.port))[2]
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ping = b'{"type":"ping"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.port, ssl=keys[1])
    writer.write(head.encode() + b"\x81" + bytes([0x80 | len(ping)]) + b"\0\0\0\0" + ping)
    async with asyncio.timeout(5):
        await reader.readuntil(b'{"type":"pong"}')
    writer.close()


async def test_handshakes_that_nobody_finishes_are_bounded(start: Start, keys: tuple[Any, ssl.SSLContext]) -> None:
    running = await secured(start, keys, opening=3)
    slow = [await asyncio.open_connection("127.0.0.1", running.gateway.port) for _ in range(3)]
    hosts = running.gateway.hub.admission.hosts
    await until(lambda: hosts.of("127.0.0.1", 0.0).opening == 3)
    with pytest.raises(OSError):  # noqa: PT011 - the connection is reset, at one moment or another
        await speak(running, keys)
    assert running.metric("tocsin_limited_total", limit="address_opening") == 1
    for _, writer in slow:
        writer.close()
    await until(lambda: hosts.of("127.0.0.1", 0.0).opening == 0)
    await speak(running, keys)


async def test_too_many_new_connections_cost_no_handshake(start: Start, keys: tuple[Any, ssl.SSLContext]) -> None:
    running = await secured(start, keys, connections=Limits(rate=0.01, burst=2))
    await speak(running, keys, "u1")
    await speak(running, keys, "u2")
    with pytest.raises(OSError):  # noqa: PT011 - as above
        await speak(running, keys, "u3")


async def test_nothing_is_left_of_those_who_speak_no_tls(start: Start, keys: tuple[Any, ssl.SSLContext]) -> None:
    running = await start(tls=keys[0], addresses=AddressLimits(exempt=(ip_network("10.0.0.0/8"),)))
    for said in (b"GET /ws HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01\x00\x05"):
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", running.gateway.port)
            writer.write(said)
            writer.close()
    hub = running.gateway.hub
    await until(lambda: hub.admission.hosts.of("127.0.0.1", 0.0).opening == 0)
    assert running.gateway._connections == set()
    await speak(running, keys)
