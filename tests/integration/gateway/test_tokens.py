"""Where a token may come from, and how one that is not good ends: over real sockets."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets

from gateway import codes
from gateway.claims import Rules
from gateway.credentials import DIFFER
from tests.integration.gateway.conftest import Client, Running, Start, token, until

OTHER = "another secret that is just as long"


@asynccontextmanager
async def connected(gateway: Running, query: str = "", **kwargs: Any) -> Any:
    async with websockets.connect(
        f"ws://127.0.0.1:{gateway.gateway.port}/ws{query}", ping_interval=None, **kwargs
    ) as socket:
        yield Client(socket)


async def ended(client: Client) -> tuple[int, str]:
    return await client.close_code(), str(client.socket.close_reason)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "the token is missing"),
        ("?token=x", "the token is malformed"),
        (f"?token={token('u1', ttl=-60)}", "the token has expired (`exp`)"),
        (f"?token={token('u1', secret=OTHER)}", "the token's signature is wrong"),
        (f"?token={token('u1', ttl=3_600, aud='x')}", "the token has an `aud`, and none is expected here"),
        (f"?token={token('u1', ttl=1e6)}", "the token lives longer than 86400 s (`exp`)"),
        (f"?token={token('u1')}&token={token('u2')}", DIFFER),
    ],
    ids=["none", "malformed", "expired", "signature", "aud", "life", "two"],
)
async def test_a_bad_token_is_4101_with_its_reason(gateway: Running, query: str, reason: str) -> None:
    async with connected(gateway, query) as client:
        assert await ended(client) == (codes.BAD_TOKEN, reason)
    assert gateway.metric("tocsin_connections_refused_total", status="4101") == 1
    assert gateway.metric("tocsin_connections_opened_total") == 0


async def test_a_token_may_come_in_four_ways(gateway: Running) -> None:
    async with connected(gateway, f"?token={token('u1')}") as client:
        assert (await client.next())["user"] == "u1"
    async with connected(gateway, additional_headers={"Authorization": f"Bearer {token('u2')}"}) as client:
        assert (await client.next())["user"] == "u2"
    offer = ["tocsin", f"tocsin.token.{token('u3')}"]
    async with connected(gateway, subprotocols=offer) as client:
        assert client.socket.subprotocol == "tocsin"
        assert (await client.next())["user"] == "u3"
    async with connected(gateway, "?hello=1") as client:
        await client.say("hello", token=token("u4"), device="d4", epoch="store-1", cursors={"inbox/normal": 0})
        welcome = await client.next()
        assert (welcome["user"], welcome["device"]) == ("u4", "d4")
        await client.say("ping")
        assert await client.next() == {"type": "pong"}


async def test_the_same_token_in_several_places_is_one(gateway: Running) -> None:
    good = token("u1")
    headers = {"Authorization": f"Bearer {good}"}
    offer = ["tocsin", f"tocsin.token.{good}"]
    query = f"?token={good}&hello=1"
    async with connected(gateway, query, additional_headers=headers, subprotocols=offer) as client:
        await client.say("hello", token=good)
        assert (await client.next())["user"] == "u1"
        await client.say("ping")
        assert await client.next() == {"type": "pong"}


@pytest.mark.parametrize(
    "other", [token("u2"), token("u1", jti="another"), "x", ""], ids=["user", "jti", "malformed", "empty"]
)
async def test_another_token_in_hello_ends_the_session(gateway: Running, other: str) -> None:
    async with connected(gateway, f"?token={token('u1')}&hello=1") as client:
        await client.say("hello", token=other)
        assert await ended(client) == (codes.BAD_TOKEN, DIFFER)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"type": "hello"}, "the token is missing"),
        ({"type": "hello", "token": None}, "the token is missing"),
        ({"type": "ping"}, "the token is missing"),
        ({"type": "refresh", "token": token("u1")}, "the token is missing"),
        ({"type": "hello", "token": 7}, "the token is missing"),
        ({"type": "hello", "token": ""}, "the token is missing"),
        ({"type": "hello", "token": "x"}, "the token is malformed"),
        ({"type": "hello", "token": token("u1", ttl=-60)}, "the token has expired (`exp`)"),
    ],
    ids=["none", "null", "ping", "refresh", "number", "empty", "malformed", "expired"],
)
async def test_nothing_happens_before_hello_has_brought_a_token(
    gateway: Running, said: dict[str, object], reason: str
) -> None:
    async with connected(gateway, "?hello=1") as client:
        await client.socket.send(json.dumps(said))
        assert await ended(client) == (codes.BAD_TOKEN, reason)
    assert not gateway.worker.sessions
    assert gateway.metric("tocsin_connections_opened_total") == 0


@pytest.mark.parametrize("message", [b"binary", ["{", "}"]], ids=["binary", "fragments"])
async def test_other_messages_before_it_are_not_waited_for(gateway: Running, message: Any) -> None:
    async with connected(gateway, "?hello=1") as client:
        await client.socket.send(message)
        assert (await ended(client))[0] == codes.BAD_TOKEN


async def test_a_hello_that_does_not_come_ends_it(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.opening.OPENING", 0.2)
    async with connected(gateway, "?hello=1") as client:
        await client.socket.ping()
        assert await ended(client) == (codes.RESTART, "`hello` came too late")
    await until(lambda: not gateway.gateway._connections)


async def test_frames_right_behind_the_hello_are_heard(gateway: Running) -> None:
    async with connected(gateway, "?hello=1") as client:
        await client.say("hello", token=token("u1"))
        for _ in range(3):
            await client.say("ping")
        frames = [await client.next() for _ in range(4)]
        assert sorted(frame["type"] for frame in frames) == ["pong", "pong", "pong", "welcome"]


async def test_the_client_learns_when_its_token_ends(gateway: Running) -> None:
    async with gateway.client(jwt_=token("u1", ttl=600), welcomed=False) as client:
        assert 600 < (await client.next())["expires_in"] <= 605
    async with gateway.client(jwt_=token("u1", ttl=-4), welcomed=False) as client:
        assert 0 < (await client.next())["expires_in"] <= 1
        warning = await client.next()
        assert warning["type"] == "token_expiring"
        assert 0 < warning["expires_in"] <= 1
        assert await client.close_code() == codes.EXPIRED


async def test_audience_issuer_and_life_are_those_of_the_gateway(start: Start) -> None:
    gateway = await start(rules=Rules(("app",), ("id",), 3_600))
    good: dict[str, Any] = {"aud": ["x", "app"], "iss": "id", "iat": int(time.time())}
    async with gateway.client(jwt_=token("u1", **good)):
        pass
    bads: tuple[dict[str, Any], ...] = ({"aud": "x"}, {"iss": "other"}, {"iat": int(time.time()) - 3_600})
    for bad in bads:
        async with gateway.client(jwt_=token("u1", **(good | bad)), welcomed=False) as client:
            code, reason = await ended(client)
            assert code == codes.BAD_TOKEN
            assert f"`{'exp' if 'iat' in bad else next(iter(bad))}`" in reason


# HTTP


async def answer(gateway: Running, *pieces: bytes, end: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    if end:
        writer.write_eof()
    async with asyncio.timeout(5):
        said = await reader.read()
    writer.close()
    return said


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET /ws HTTP/1.0\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /ws HTTP/1.1\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n", 426),
        (b"GET /ws?token=x HTTP/1.1\r\nHost: h\r\n\r\n" * 2, 426),
        (b"POST /ws HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000, 405),
        (b"GET /ws HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n", 431),
    ],
    ids=["TLS", "nonsense", "HTTP/1.0", "HTTP/2", "no Host", "no upgrade", "two requests", "body", "long head"],
)
async def test_every_request_is_answered_also_while_more_comes(gateway: Running, data: bytes, status: int) -> None:
    said = await answer(gateway, data)
    assert said.startswith(f"HTTP/1.1 {status} ".encode())
    assert said.count(b"Connection: close") == 1
    assert gateway.metric("tocsin_connections_refused_total", status=str(status)) == 1
    await until(lambda: not gateway.gateway._connections)


async def test_half_a_request_is_answered_when_no_more_comes(gateway: Running) -> None:
    assert (await answer(gateway, b"GET /ws HTTP/1.1\r\nHo", end=True)).startswith(b"HTTP/1.1 400 ")
    assert await answer(gateway, end=True) == b""


async def test_who_is_turned_away_and_stays_is_cut_off(gateway: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.port)
    writer.write(b"nonsense\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    await until(lambda: not gateway.gateway._connections, 8)
    writer.close()
