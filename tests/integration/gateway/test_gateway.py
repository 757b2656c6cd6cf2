"""A whole gateway over real sockets, with a real Redis and a small worker behind it."""

import asyncio
import json
import socket
import time
from typing import Any

import aiohttp
import pytest
import redis.asyncio
import websockets
from websockets.asyncio.client import ClientConnection

from gateway import codes
from schemas import bus
from stack.servers import Redis
from tests.integration.gateway.conftest import Running, Start, token, until


async def refused(url: str, **kwargs: Any) -> int:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(url, **kwargs)
    return caught.value.response.status_code


class TestDelivery:
    async def test_entries_come_in_order(self, gateway: Running) -> None:
        async with gateway.client() as client:
            for _ in range(5):
                await gateway.worker.append("u1", "x", times=3)
            assert await client.seqs(15) == list(range(1, 16))
        await until(lambda: gateway.worker.ended)
        assert gateway.metric("tocsin_deliveries_total", log="inbox/normal") == 15
        assert gateway.metric("tocsin_delivery_latency_seconds_count") == 15

    async def test_every_device_gets_its_own_backlog(self, gateway: Running) -> None:
        gateway.worker.window = 7
        await gateway.worker.append("u1", "x", times=2000)
        async with gateway.client(with_hello=True, welcomed=False) as one, gateway.client() as two:
            await one.say("hello", device="phone", epoch="store-1", cursors={"inbox/normal": 1990})
            assert (await one.next())["device"] == "phone"
            assert await one.seqs(10) == list(range(1991, 2001))
            assert await two.seqs(2000) == list(range(1, 2001))
        assert gateway.metric("tocsin_reconnects_total") == 1

    async def test_cursors_of_another_store_are_reset(self, gateway: Running) -> None:
        await gateway.worker.append("u1", "x", times=3)
        async with gateway.client(with_hello=True, welcomed=False) as client:
            await client.say("hello", epoch="another", cursors={"inbox/normal": 2})
            assert (await client.next())["type"] == "welcome"
            assert await client.next() == {"type": "reset", "log": "inbox/normal", "head": 3}

    async def test_acks_and_syncs_reach_the_worker(self, gateway: Running) -> None:
        async with gateway.client(jwt_=token("u1", device="phone")) as client:
            await gateway.worker.append("u1", "x", times=3)
            await client.seqs(3)
            await client.say("ack", log="inbox/normal", seq=3)
            await client.say("read", log="inbox/normal", seq=2)
            await until(lambda: gateway.worker.acks)
            ack = gateway.worker.acks["u1", "phone", "inbox/normal"]
            assert (ack.delivered, ack.read) == (3, 2)
            await client.say("sync", log="inbox/normal", after=1, limit=1)
            assert await client.seqs(1) == [2]
            assert await client.next() == {"type": "gap", "log": "inbox/normal", "from": 3, "to": 3}
            await client.say("sync", log="inbox/normal", after=2)
            assert await client.seqs(1) == [3]
            assert await client.next() == {"type": "synced", "log": "inbox/normal", "head": 3}

    async def test_a_lost_publish_is_noticed_by_the_next_one(self, gateway: Running) -> None:
        async with gateway.client() as client:
            gateway.worker.lossy = True
            await gateway.worker.append("u1", "x")
            gateway.worker.lossy = False
            await gateway.worker.append("u1", "x")
            assert await client.seqs(2) == [1, 2]

    async def test_a_lost_publish_before_silence_is_noticed_by_the_beat(self, gateway: Running) -> None:
        async with gateway.client() as client:
            await until(lambda: gateway.worker.sessions)
            gateway.worker.lossy = True
            await gateway.worker.append("u1", "x")
            gateway.worker.lossy = False
            await gateway.worker.beat()
            assert await client.seqs(1) == [1]

    async def test_a_new_owner_is_told_of_the_sessions_and_the_old_one_is_fenced(self, gateway: Running) -> None:
        worker = gateway.worker
        async with gateway.client() as client:
            await worker.append("u1", "x")
            await client.seqs(1)
            worker.epochs = dict.fromkeys(worker.epochs, 2)
            await worker.beat()
            await until(lambda: [one for one in worker.announced if one.epoch == 2])
            (session,) = worker.announced[-1].sessions
            assert (session.user, session.cursors["inbox/normal"]) == ("u1", 1)
            worker.epochs = dict.fromkeys(worker.epochs, 1)
            await worker.append("u1", "x")
            await until(lambda: gateway.gateway.hub.dispatch.feed.fenced)
            await client.say("ping")
            assert await client.next() == {"type": "pong"}

    async def test_deliveries_for_a_session_that_is_not_here_are_disowned(self, gateway: Running) -> None:
        async with gateway.client():
            (known,) = gateway.worker.sessions.values()
            partition = next(iter(gateway.gateway.hub.sessions.values())).partition
            delivery = bus.Delivery("u1", ["gone"], [bus.Run("inbox/normal", 1, 1, frame=b"{}")])
            for _ in range(3):
                await gateway.worker.publish(known.gateway, partition, deliveries=[delivery])
            await until(lambda: gateway.worker.ended)
            assert gateway.worker.ended == ["gone"]

    async def test_a_session_that_the_worker_does_not_answer_is_said_again(
        self, gateway: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.session.ANSWER", 0.2)
        gateway.worker.deaf = True
        async with gateway.client(welcomed=False) as client:
            await until(lambda: gateway.worker.sessions)
            gateway.worker.deaf = False
            assert (await client.next())["type"] == "welcome"


class TestRedis:
    async def test_after_a_restart_what_was_missed_is_delivered(self, start: Start, tmp_path: Any) -> None:
        with Redis(tmp_path / "redis") as server:
            running = await start(redis=server.url)
            async with running.client() as client:
                await running.worker.append("u1", "x")
                await client.seqs(1)
                running.worker.lossy = True
                server.kill()
                await until(lambda: running.gateway._subscription.problem)
                await running.worker.append("u1", "x", times=3)
                server.restart()
                running.worker.lossy = False
                assert await client.seqs(3) == [2, 3, 4]

    async def test_a_connection_that_is_dead_without_a_word_is_given_up(
        self, start: Start, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.bus.PING", 0.1)
        monkeypatch.setattr("gateway.bus.SILENCE", 0.5)
        with Redis(tmp_path / "redis") as server:
            running = await start(redis=server.url)
            server.pause()
            await until(lambda: running.gateway._subscription.problem)
            server.resume()
            await until(lambda: running.gateway._subscription.problem is None)

    async def test_the_lease_says_where_and_how_many(self, gateway: Running) -> None:
        config = gateway.gateway.config
        client = redis.asyncio.Redis.from_url(config.redis)
        key = bus.lease_key(config.prefix, config.id)
        lease = json.loads(await client.get(key) or b"null")
        port = gateway.gateway.port
        assert lease == {
            "url": f"ws://127.0.0.1:{port}", "machine": socket.gethostname(), "port": port,
            "sessions": 0, "partitions": {},
        }  # fmt: skip
        assert 0 < await client.ttl(key) <= 10
        await gateway.gateway.stop()
        assert await client.get(key) is None
        await client.aclose()


class TestHandshake:
    async def test_another_path_is_404_and_another_method_405(self, gateway: Running) -> None:
        assert await refused(gateway.url().replace("/ws?", "/other?")) == 404
        async with aiohttp.ClientSession() as http:
            url = gateway.url().replace("ws://", "http://")
            async with http.post(url) as response:
                assert response.status == 405
            async with http.get(url) as response:
                assert response.status == 426

    async def test_pages_of_other_hosts_are_refused(self, gateway: Running) -> None:
        assert await refused(gateway.url(), origin="http://evil.example") == 403
        async with gateway.client(origin=f"http://127.0.0.1:{gateway.gateway.port}"):
            pass

    async def test_a_full_gateway_answers_503(self, start: Start) -> None:
        running = await start(sessions=1)
        async with running.client():
            assert await refused(running.url("u2")) == 503

    async def test_a_head_that_is_too_long_is_431(self, gateway: Running) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.port)
        writer.write(b"GET /ws HTTP/1.1\r\n" + b"X: y\r\n" * 4000)
        assert b" 431 " in await reader.readline()
        writer.close()

    async def test_a_client_that_says_nothing_is_cut_off(
        self, gateway: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.opening.OPENING", 0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.port)
        writer.write(b"GET /ws HT")
        async with asyncio.timeout(3):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()

    async def test_frames_sent_along_with_the_request_are_not_lost(self, gateway: Running) -> None:
        target = gateway.url().partition(str(gateway.gateway.port))[2]
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.port)
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ping = b'{"type":"ping"}'
        writer.write(head.encode() + b"\x81" + bytes([0x80 | len(ping)]) + b"\0\0\0\0" + ping)
        async with asyncio.timeout(3):
            await reader.readuntil(b'{"type":"pong"}')
        writer.close()

    async def test_no_extension_is_negotiated(self, gateway: Running) -> None:
        async with gateway.client() as client:
            assert "Sec-WebSocket-Extensions" not in client.socket.response.headers

    async def test_a_token_never_reaches_the_log(self, gateway: Running, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", "gateway")
        good, bad = token("u1"), "canary.canary.canary"
        async with gateway.client(jwt_=good) as client:
            await gateway.worker.append("u1", "a body with a canary")
            await client.seqs(1)
            await client.say("refresh", token=bad)
            assert (await client.next())["code"] == "unauthorized"
        async with gateway.client(jwt_=bad, welcomed=False) as client:
            assert await client.close_code() == codes.BAD_TOKEN
        told = [record for record in caplog.records if not record.name.startswith("websockets.client")]
        assert not [record for record in told if "canary" in record.getMessage() or good in record.getMessage()]


class TestClients:
    async def test_a_message_over_64_kib_is_4105(self, gateway: Running) -> None:
        async with gateway.client() as client:
            await client.socket.send("x" * 65_537)
            assert await client.close_code() == codes.TOO_LARGE

    async def test_fragments_are_joined_and_their_number_is_bounded(self, gateway: Running) -> None:
        async with gateway.client() as client:
            await client.socket.send(['{"type":', '"pi', 'ng"}'])
            assert await client.next() == {"type": "pong"}
            await client.socket.send(["x"] * 100)
            assert await client.close_code() == codes.TOO_LARGE

    async def test_text_that_is_not_utf_8_is_1007_and_binary_1003(self, gateway: Running) -> None:
        async with gateway.client() as client:
            await client.socket.send(b"\xff\xfe", text=True)
            assert await client.close_code() == 1007
        async with gateway.client() as client:
            await client.socket.send(b"{}")
            assert await client.close_code() == 1003

    async def test_bad_frames_are_answered_and_the_session_goes_on(self, gateway: Running) -> None:
        async with gateway.client() as client:
            await client.socket.send("{")
            assert (await client.next())["code"] == "bad_json"
            await client.say("dance", id="d1")
            answer = await client.next()
            assert (answer["code"], answer["ref"]) == ("unknown_type", "d1")
            await client.say("sync", log="inbox/normal/u2", after=0)
            assert (await client.next())["code"] == "forbidden"
            await client.say("ping")
            assert await client.next() == {"type": "pong"}

    async def test_a_client_that_says_too_much_is_4006(self, gateway: Running) -> None:
        async with gateway.client() as client:
            for _ in range(300):
                await client.say("ping")
            assert await client.close_code() == codes.RATE

    async def test_websocket_pings_count_too(self, gateway: Running) -> None:
        async with gateway.client() as client:
            for _ in range(300):
                await client.socket.ping()
            assert await client.close_code() == codes.RATE

    async def test_an_expired_token_is_4005_unless_it_was_refreshed(self, gateway: Running) -> None:
        async with (
            gateway.client(jwt_=token("u1", ttl=-4.5)) as one,
            gateway.client(jwt_=token("u1", ttl=-4.5)) as two,
        ):
            await two.say("refresh", token=token("u2"))
            assert (await two.next())["code"] == "unauthorized"
            await two.say("refresh", token=token("u1"))
            assert await one.close_code() == codes.EXPIRED
            await two.say("ping")
            assert await two.next() == {"type": "pong"}

    async def test_a_silent_client_is_4003_and_one_that_answers_pings_stays(self, start: Start) -> None:
        running = await start(heartbeat=0.2, idle=0.5)
        async with running.client() as lively:
            reader, writer = await raw_client(running)
            async with asyncio.timeout(5):
                data = await reader.read(1_000_000)
                while b"\x88" not in data:
                    data += await reader.read(1_000_000)
            assert codes.SILENT.to_bytes(2, "big") in data
            writer.close()
            await lively.say("ping")
            assert await lively.next() == {"type": "pong"}

    async def test_a_client_that_does_not_answer_the_close_is_cut_off(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.connection.CLOSING", 0.2)
        running = await start(heartbeat=0.2, idle=0.4)
        reader, writer = await raw_client(running)
        async with asyncio.timeout(5):
            while await reader.read(1_000_000):
                pass
        await until(lambda: not running.gateway._connections)
        writer.close()


async def raw_client(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket that answers nothing."""
    target = running.url().partition(str(running.gateway.port))[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway.port)
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"welcome")
    return reader, writer


class TestSlowClients:
    async def test_what_is_not_read_is_not_buffered_and_comes_in_order_later(self, gateway: Running) -> None:
        async with gateway.client(max_queue=1) as client:
            body = "x" * 30_000
            for _ in range(60):
                await gateway.worker.append("u1", body, times=5)
            (peer,) = gateway.gateway.hub.sessions.values()
            assert isinstance(client.socket, ClientConnection)
            await until(lambda: peer.session.readings["inbox/normal"].head == 300)
            transport: Any = peer.transport
            assert transport._transport.get_write_buffer_size() < 900_000
            assert await client.seqs(300, deadline=30) == list(range(1, 301))

    async def test_a_client_that_is_stuck_is_4002(self, gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.session.STUCK", 0.3)
        async with gateway.client(max_queue=1) as client:
            for _ in range(60):
                await gateway.worker.append("u1", "x" * 50_000, times=5)
            await until(lambda: gateway.metric("tocsin_slow_clients_total"))
            assert await client.close_code() in (codes.SLOW, 1006)

    async def test_others_are_not_slowed_down(self, gateway: Running) -> None:
        async with gateway.client(max_queue=1), gateway.client("u2") as fast:
            for _ in range(30):
                await gateway.worker.append("u1", "x" * 50_000, times=5)
            began = time.monotonic()
            await gateway.worker.append("u2", "x")
            assert await fast.seqs(1) == [1]
            assert time.monotonic() - began < 1.0


class TestEnd:
    async def test_drain_sends_everyone_away_and_says_so_to_the_worker(self, start: Start) -> None:
        running = await start(drain=0.3)
        async with running.client("u1") as one, running.client("u2") as two:
            stopping = asyncio.ensure_future(running.gateway.stop())
            for client in (one, two):
                frame = await client.next()
                assert frame["type"] == "reconnect"
                assert 0 <= frame["after"] < 1000
                assert await client.close_code() == codes.DRAIN
            await stopping
        assert len(running.worker.ended) == 2

    async def test_while_it_drains_nobody_is_let_in(self, start: Start) -> None:
        running = await start()
        running.gateway.hub.draining = True
        assert await refused(running.url()) == 503

    async def test_health_tells_why_it_is_not_ready(self, gateway: Running) -> None:
        url = f"http://127.0.0.1:{gateway.gateway.metrics_port}"
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/health/ready") as response:
                assert (response.status, (await response.json())["ready"]) == (200, True)
            gateway.gateway.hub.draining = True
            async with http.get(f"{url}/health/ready") as response:
                assert response.status == 503
                assert (await response.json())["reasons"] == {"gateway": "the gateway is stopping"}
            async with http.get(f"{url}/health/live") as response:
                assert response.status == 200
            async with http.get(f"{url}/metrics") as response:
                text = await response.text()
        for name in ("tocsin_connections ", "tocsin_deliveries_total{", "tocsin_delivery_latency_seconds_bucket{"):
            assert name in text
