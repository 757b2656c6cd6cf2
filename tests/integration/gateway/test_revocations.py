"""Tokens that count no more, and sessions that operators look at and end: real gateway processes, Kafka and Redis."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest
import websockets
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from websockets.exceptions import ConnectionClosed

from cli.revoke import revoke
from cli.sessions import kick, show_sessions
from cli.tokens import make_token
from stack.ports import free_port
from stack.servers import Kafka, Redis
from streams.settings import Settings, settings_from
from tests.integration.gateway.conftest import SECRET
from tests.integration.gateway.test_process import Process, process

PREFIX = "rev-"
SOON = 2.0  # s in which a revocation is in force everywhere


@pytest.fixture(scope="module")
def servers(kafka: Kafka, redis_server: Redis) -> dict[str, str]:
    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.create_topics(
            [NewTopic(f"{PREFIX}{name}", 4, 1) for name in ("connections", "acks", "revocations")]
        )
        await admin.close()

    asyncio.run(make())
    return {"TOCSIN_KAFKA": kafka.address, "TOCSIN_REDIS": redis_server.url, "TOCSIN_PREFIX": PREFIX}


@pytest.fixture(scope="module")
def settings(servers: dict[str, str]) -> Settings:
    return settings_from({name.removeprefix("TOCSIN_").lower(): value for name, value in servers.items()})


@pytest.fixture(autouse=True)
async def ended() -> AsyncIterator[None]:
    """Let transports that were closed end, which takes some turns of the loop and tells nobody."""
    yield
    await asyncio.sleep(0.1)


Two = tuple[int, int]  # the ports of two gateways


@pytest.fixture(scope="module")
def two(servers: dict[str, str]) -> Iterator[Two]:
    ports = free_port(), free_port()
    with (
        process(servers | {"TOCSIN_PORT": str(ports[0])}) as one,
        process(servers | {"TOCSIN_PORT": str(ports[1])}) as other,
    ):
        for each in (one, other):
            each.until(ready=True)
        yield ports


async def connect(port: int, token: str) -> Any:
    return await websockets.connect(f"ws://127.0.0.1:{port}/ws?token={token}", ping_interval=None)


async def close_code(socket: Any, within: float = SOON) -> int:
    async with asyncio.timeout(within):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed:
            await socket.wait_closed()
            return int(socket.close_code)


async def refused(port: int, token: str) -> tuple[int, str]:
    """Return code and reason with which a token is refused; 0 if it is good, for then `ping` is answered."""
    socket = await connect(port, token)
    try:
        await socket.send('{"type": "ping"}')
        await socket.recv()
    except ConnectionClosed:
        await socket.wait_closed()
        return int(socket.close_code), str(socket.close_reason)
    await socket.close()
    return 0, ""


async def until_refused(port: int, token: str) -> None:
    async with asyncio.timeout(SOON):
        while (await refused(port, token))[0] != 4103:
            pass


async def open_still(socket: Any) -> bool:
    await (await socket.ping())
    return True


async def test_a_user_s_tokens_end_on_every_gateway_and_new_ones_are_good(two: Two, settings: Settings) -> None:
    old = make_token(SECRET, "ann")
    sockets = [await connect(port, old) for port in two]
    other = await connect(two[0], make_token(SECRET, "bob"))
    begun = time.monotonic()
    assert await revoke(settings, "ann", None, as_json=False) == 0
    assert [await close_code(socket) for socket in sockets] == [4103, 4103]
    assert time.monotonic() - begun < SOON
    for port in two:
        assert await refused(port, old) == (4103, "the token was revoked")
    new = await connect(two[1], make_token(SECRET, "ann"))
    assert await open_still(new)
    assert await open_still(other)
    await new.close()
    await other.close()


def whole_seconds(user: str) -> str:
    """Return a token as most libraries make it: `iat` has no fractions."""
    return jwt.encode({"sub": user, "iat": int(time.time()), "exp": int(time.time()) + 60}, SECRET, "HS256")


async def test_a_token_that_is_made_right_after_a_revocation_is_good(two: Two, settings: Settings) -> None:
    for _ in range(2):
        old = whole_seconds("flo")
        await revoke(settings, "flo", None, as_json=False)
        new = whole_seconds("flo")
        await until_refused(two[0], old)
        socket = await connect(two[0], new)
        assert await open_still(socket)
        await socket.close()


async def test_one_token_ends_and_the_user_s_others_stay(two: Two, settings: Settings) -> None:
    tokens = [make_token(SECRET, "cid") for _ in range(2)]
    sockets = [await connect(port, token) for port, token in zip(two, tokens, strict=True)]
    assert await revoke(settings, None, tokens[0], as_json=True) == 0
    assert await close_code(sockets[0]) == 4103
    await until_refused(two[1], tokens[0])  # each gateway follows at its own pace
    assert await open_still(sockets[1])
    await sockets[1].send(json.dumps({"type": "refresh", "token": tokens[0]}))
    async with asyncio.timeout(SOON):
        error = json.loads(await sockets[1].recv())
    assert (error["code"], error["message"]) == ("unauthorized", "the token was revoked")
    await sockets[1].close()


async def test_a_gateway_that_starts_later_refuses_too_also_while_kafka_is_frozen(
    servers: dict[str, str], settings: Settings, kafka: Kafka
) -> None:
    token = make_token(SECRET, "dot")
    await revoke(settings, "dot", None, as_json=False)
    port = free_port()
    with process(servers | {"TOCSIN_PORT": str(port)}) as late:
        await asyncio.to_thread(late.until, ready=True)
        assert (await refused(port, token))[0] == 4103
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            assert (await refused(port, token))[0] == 4103
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        await asyncio.to_thread(late.end)  # in good order, so that it leaves no lease behind


async def test_a_gateway_without_the_topic_waits_and_says_what_to_do(servers: dict[str, str], kafka: Kafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    await admin.create_topics([NewTopic(f"bare-{name}", 4, 1) for name in ("connections", "acks")])
    await admin.close()
    with process(servers | {"TOCSIN_PORT": "0", "TOCSIN_PREFIX": "bare-"}) as one:
        reason = "Kafka has no topic bare-revocations; `tocsin topics apply` makes it"
        said = await asyncio.to_thread(until_reason, one, "revocations", reason)
    assert said["gateway"] == "waiting for the revocations"


def until_reason(one: Process, name: str, wanted: str) -> dict[str, str]:
    deadline = time.monotonic() + 60
    while True:
        reasons: Any = one.ready().get("reasons", {})
        if reasons.get(name) == wanted:
            found: dict[str, str] = reasons
            return found
        assert time.monotonic() < deadline, reasons
        time.sleep(0.05)


async def test_sessions_are_shown_and_ended_wherever_they_are(
    two: Two, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    sockets = [await connect(port, make_token(SECRET, "eve", device=f"d{port}")) for port in two]
    assert await show_sessions(settings, "eve", as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["silent"] == []
    devices = [one["device"] for sessions in shown["gateways"].values() for one in sessions]
    assert sorted(devices) == sorted(f"d{port}" for port in two)
    assert await kick(settings, "eve", f"d{two[0]}", None, as_json=False) == 0
    assert "ended 1 sessions of eve" in capsys.readouterr().out
    assert await close_code(sockets[0]) == 4103
    assert await open_still(sockets[1])
    back = await connect(two[0], make_token(SECRET, "eve"))
    assert await kick(settings, "eve", None, None, as_json=False) == 0
    assert [await close_code(socket) for socket in (back, sockets[1])] == [4103, 4103]


async def test_a_gateway_that_is_frozen_is_named(
    servers: dict[str, str], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with process(servers | {"TOCSIN_PORT": "0", "TOCSIN_INSTANCE": "icy"}) as one:
        await asyncio.to_thread(one.until, ready=True)
        os.kill(one.child.pid, signal.SIGSTOP)
        assert await show_sessions(settings, "eve", as_json=False) == 1
        os.kill(one.child.pid, signal.SIGCONT)
    assert "icy-" in (said := capsys.readouterr().out)
    assert "lives and did not answer" in said
