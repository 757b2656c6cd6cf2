"""Nobody holds up anybody else: limits by address and by user, and clients that say too much, over real sockets."""

import asyncio
import json
import time
from ipaddress import ip_network
from typing import Any

import pytest
import websockets
from websockets.frames import Frame, Opcode

from gateway import codes
from gateway.admission import AddressLimits
from gateway.allowance import Quotas
from gateway.bucket import Limits
from gateway.websocket import WebSocket
from schemas.records import Ack
from tests.integration.gateway.conftest import Client, Running, Start, token, until

LOOPBACK = (ip_network("127.0.0.0/8"),)
LOG = "inbox/normal"


def addresses(**limits: Any) -> AddressLimits:
    """Return limits that count clients on this machine as well."""
    return AddressLimits(**{"exempt": (), **limits})


async def answer_of(running: Running, user: str = "u9", **kwargs: Any) -> tuple[int, str | None]:
    """Return the status with which a client is refused, and its Retry-After."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(running.url(user), **kwargs)
    return caught.value.response.status_code, caught.value.response.headers.get("Retry-After")


class TestAddresses:
    async def test_sessions_of_an_address_are_bounded(self, start: Start) -> None:
        running = await start(addresses=addresses(sessions=2))
        async with running.client("u1"), running.client("u2"):
            assert await answer_of(running) == (429, "10")
        await until(lambda: not running.gateway.hub.sessions)
        async with running.client("u9"):
            pass
        assert running.metric("tocsin_limited_total", limit="address_sessions") == 1
        assert running.metric("tocsin_connections_refused_total", status="429") == 1

    async def test_new_connections_of_an_address_have_a_rate(self, start: Start) -> None:
        running = await start(addresses=addresses(connections=Limits(rate=0.1, burst=3)))
        for number in range(3):
            async with running.client(f"u{number}"):
                pass
        status, retry = await answer_of(running)
        assert (status, 1 <= int(retry or 0) <= 10) == (429, True)
        assert running.metric("tocsin_limited_total", limit="address_connections") == 1

    async def test_clients_that_never_finish_their_request_are_bounded(self, start: Start) -> None:
        running = await start(addresses=addresses(opening=3))
        slow = [await asyncio.open_connection("127.0.0.1", running.gateway.port) for _ in range(3)]
        for _, writer in slow:
            writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
        await until(lambda: len(running.gateway._connections) == 3)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.port)
        assert b" 429 " in await reader.readline()
        writer.close()
        slow[0][1].close()
        await until(lambda: len(running.gateway._connections) == 2)
        async with running.client():
            pass
        for _, writer in slow[1:]:
            writer.close()
        assert running.metric("tocsin_limited_total", limit="address_opening") == 1

    async def test_loopback_is_exempt_by_default(self, start: Start) -> None:
        running = await start(addresses=AddressLimits(sessions=1, opening=1, connections=Limits(1, 1)))
        async with running.client("u1"), running.client("u2"), running.client("u3"):
            pass

    async def test_behind_a_proxy_clients_are_told_apart_by_what_it_says(self, start: Start) -> None:
        running = await start(addresses=AddressLimits(sessions=1, proxies=LOOPBACK))
        first, second = ({"X-Forwarded-For": f"spoofed, 198.51.100.{number}"} for number in (1, 2))
        async with (
            running.client("u1", additional_headers=first),
            running.client("u2", additional_headers=second),
        ):
            assert (await answer_of(running, additional_headers=first))[0] == 429

    async def test_whoever_is_no_proxy_cannot_choose_an_address(self, start: Start) -> None:
        running = await start(addresses=addresses(sessions=1, proxies=(ip_network("10.0.0.0/8"),)))
        first, second = ({"X-Forwarded-For": f"198.51.100.{number}"} for number in (1, 2))
        async with running.client("u1", additional_headers=first):
            assert (await answer_of(running, additional_headers=second))[0] == 429


class TestUsers:
    async def test_new_connections_of_a_user_have_a_rate_and_others_come_in(self, start: Start) -> None:
        running = await start(quotas=Quotas(connections=Limits(rate=0.1, burst=3)))
        for _ in range(3):
            async with running.client("u1"):
                pass
        async with running.client("u1", welcomed=False) as client:
            assert await client.close_code() == codes.RATE
        async with running.client("u2"):
            pass
        assert running.metric("tocsin_limited_total", limit="user_connections") == 1

    async def test_frames_of_all_sessions_of_a_user_are_counted_together(self, start: Start) -> None:
        running = await start(quotas=Quotas(frames=Limits(rate=1, burst=100)))
        async with running.client("u1") as one, running.client("u1") as two, running.client("u2") as other:
            for _ in range(60):
                await one.say("ping")
                await two.say("ping")
            closed, _ = await asyncio.wait(
                [asyncio.ensure_future(client.close_code()) for client in (one, two)],
                return_when=asyncio.FIRST_COMPLETED,
            )
            assert closed.pop().result() == codes.RATE
            await other.say("ping")
            assert await other.next() == {"type": "pong"}
        assert running.metric("tocsin_limited_total", limit="user_frames") >= 1

    async def test_syncs_are_paced_and_nobody_is_closed_for_them(self, start: Start) -> None:
        running = await start(quotas=Quotas(entries=Limits(rate=300, burst=300)))
        await running.worker.append("u1", "x", times=900)
        async with running.client("u1") as one, running.client("u2") as other:
            await one.seqs(900)
            begun = time.monotonic()
            await one.say("sync", log=LOG, after=0, limit=1_000)
            await other.say("ping")
            assert await other.next() == {"type": "pong"}
            assert await one.seqs(900) == list(range(1, 901))
            assert (await one.next())["type"] == "synced"
            assert time.monotonic() - begun > 0.5  # 500 entries at once are 200 too many
        assert running.metric("tocsin_limited_total", limit="user_entries") >= 1


class TestAcks:
    async def test_a_client_may_acknowledge_every_entry_of_a_long_backlog(self, start: Start) -> None:
        running = await start()
        await running.worker.append("u1", "x", times=20_000)
        async with running.client(jwt_=token("u1", device="phone")) as client:
            await self._acknowledge_each(client, 20_000)
            await until(lambda: running.worker.acks.get(("u1", "phone", LOG)))
            await until(lambda: running.worker.acks["u1", "phone", LOG].delivered == 20_000)
            assert running.gateway.hub.sessions
        assert running.metric("tocsin_connections_closed_total", code="4006") == 0

    async def _acknowledge_each(self, client: Client, count: int) -> None:
        last = 0
        async with asyncio.timeout(60):
            while last < count:
                frame = json.loads(await client.socket.recv())
                last = frame["seq"]
                await client.say("ack", log=LOG, seq=last)

    async def test_the_acks_of_one_read_are_one(self, gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        async with gateway.client(jwt_=token("u1", device="phone")) as client:
            await gateway.worker.append("u1", "x", times=60)
            await client.seqs(60)
            told: list[Any] = []
            outbox = gateway.gateway.hub.outbox
            real = outbox.acknowledge

            def acknowledge(partition: int, ack: Ack) -> bool:
                told.append(ack)
                return real(partition, ack)

            monkeypatch.setattr(outbox, "acknowledge", acknowledge)
            acks = [json.dumps({"type": "ack", "log": LOG, "seq": seq}) for seq in range(1, 61)]
            frames = b"".join(Frame(Opcode.TEXT, ack.encode()).serialize(mask=True) for ack in acks)
            client.socket.transport.write(frames)
            await until(lambda: gateway.worker.acks)
            assert gateway.worker.acks["u1", "phone", LOG].delivered == 60
            assert len(told) == 1

    async def test_a_flood_of_acks_slows_the_flooder_and_nobody_else(self, start: Start) -> None:
        running = await start(quotas=Quotas(reads=Limits(rate=1_000, burst=1_000)))
        await running.worker.append("u1", "x")
        ack = Frame(Opcode.TEXT, b'{"type":"ack","log":"inbox/normal","seq":1}').serialize(mask=True)
        async with running.client("u1") as flooder, running.client("u2") as other:
            await flooder.seqs(1)
            transport = flooder.socket.transport
            transport.write(ack * 3_000)
            await until(lambda: running.metric("tocsin_limited_total", limit="user_reads"))
            await running.worker.append("u2", "x")
            assert await other.seqs(1) == [1]
            taken = running.metric("tocsin_frames_received_total")
            assert taken < 2_000
            await flooder.say("ping")  # and it is heard when its turn comes
            assert await flooder.next(10) == {"type": "pong"}
            assert running.metric("tocsin_frames_received_total") == 3_001

    async def test_tiny_frames_do_not_hold_the_loop(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        turns: list[int] = []  # frames of each turn while the session was there
        real = WebSocket._take_frames

        def take(self: WebSocket, frames: list[bytes], now: float) -> None:
            if self._peer is not None:
                turns.append(len(frames))
            real(self, frames, now)

        monkeypatch.setattr("gateway.websocket.WebSocket._take_frames", take)
        running = await start()
        async with running.client() as client:
            client.socket.transport.write(Frame(Opcode.PONG, b"").serialize(mask=True) * 20_000)
            assert await client.close_code() == codes.RATE
            await until(lambda: not running.gateway._connections)  # its answer to the close was found behind them
        assert max(turns) <= 64


class TestHello:
    @pytest.mark.parametrize(
        "said",
        [
            "{",
            "[]",
            '"hello"',
            '{"type":"hallo"}',
            '{"type":"hello","device":""}',
            '{"type":"hello","device":5}',
            '{"type":"hello","device":"' + "x" * 5_000 + '"}',
            '{"type":"hello","device":"\\ud800"}',
            '{"type":"hello","client":"\\udc00"}',
            '{"type":"hello","cursors":{"inbox/normal":-1}}',
            '{"type":"hello","cursors":{"inbox/normal":1e300}}',
            '{"type":"hello","cursors":[]}',
            json.dumps({"type": "hello", "cursors": {f"chat/{n}": n for n in range(1_001)}}),
            json.dumps({"type": "hello", "epoch": "e" * 300}),
            json.dumps({"type": "hello", "device": "tv"}),  # the token names the phone
            "",
        ],
    )
    async def test_a_hello_that_is_refused_ends_the_session(self, gateway: Running, said: str) -> None:
        async with gateway.client(jwt_=token("u1", device="phone"), with_hello=True, welcomed=False) as client:
            await client.socket.send(said)
            assert (await client.next())["type"] == "error"
            assert await client.close_code() == codes.PROTOCOL
            assert client.socket.close_reason
        assert gateway.worker.sessions == {}
        assert gateway.worker.ended == []

    async def test_a_hello_without_being_asked_for_ends_the_session(self, gateway: Running) -> None:
        async with gateway.client() as client:
            await client.say("hello", device="tv")
            assert (await client.next())["code"] == "bad_request"
            assert await client.close_code() == codes.PROTOCOL

    async def test_what_a_client_calls_itself_is_cut(self, gateway: Running) -> None:
        async with gateway.client(with_hello=True, welcomed=False) as client:
            await client.say("hello", device="phone", client="ü" * 5_000)
            assert (await client.next())["type"] == "welcome"
            (peer,) = gateway.gateway.hub.sessions.values()
            assert peer.session.client == "ü" * 256
