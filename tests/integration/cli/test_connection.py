"""The command line's client against a scripted gateway: what it says, and when it comes back."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from cli.connection import Connection, Ended
from cli.device import Cursors, Device, Step
from cli.kafka import Unreachable
from schemas import frames
from schemas.errors import BadToken
from schemas.records import Notification

LOG = "inbox/normal"
Script = Callable[[ServerConnection], Awaitable[None]]


class Gateway:
    """Plays one script a connection, the last one again and again, and keeps what clients said."""

    def __init__(self, *scripts: Script, status: HTTPStatus | None = None) -> None:
        self.heard: list[list[dict[str, Any]]] = []
        self.paths: list[str] = []
        self._scripts = scripts
        self._status = status
        self.url = ""

    async def serve(self, socket: ServerConnection) -> None:
        said: list[dict[str, Any]] = []
        self.heard.append(said)
        said.append(json.loads(await socket.recv()))
        reader = asyncio.create_task(self._listen(socket, said))
        await self._scripts[min(len(self.heard), len(self._scripts)) - 1](socket)
        await reader

    async def _listen(self, socket: ServerConnection, said: list[dict[str, Any]]) -> None:
        async for text in socket:
            said += [json.loads(text)]

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        return connection.respond(self._status, "") if self._status else None

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Gateway"]:
        async with serve(self.serve, "127.0.0.1", 0, process_request=self.answer) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            yield self


class Client:
    """A device, and what it has shown."""

    def __init__(self, url: str, cursors: Cursors | None = None) -> None:
        self.device = Device(cursors or Cursors())
        self.shown: list[int] = []
        self.notes: list[str] = []
        self.tokens = 0
        self._changed = asyncio.Condition()
        self._connection = Connection(
            url, self.device, token=self._token, on_step=self._on_step, say=self.notes.append, device_id="d"
        )

    def _token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    async def _on_step(self, step: Step) -> None:
        self.shown += [entry.seq for entry in step.show]
        async with self._changed:
            self._changed.notify_all()

    async def run(self) -> None:
        await asyncio.wait_for(self._connection.run(), 20)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Client"]:
        task = asyncio.create_task(self.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def shows(self, *seqs: int) -> None:
        async with asyncio.timeout(15), self._changed:
            await self._changed.wait_for(lambda: self.shown == list(seqs))


def entry(seq: int) -> str:
    record = Notification(user="u", title="t")
    return frames.notification_frame(record, log=LOG, seq=seq, n=seq, id_=f"i{seq}", ts_ms=0).decode()


WELCOME = frames.encode(
    frames.Welcome(
        session="s", user="u", device="d", epoch="e", heads={}, cursors={}, unread={}, heartbeat=25, gateway="g"
    )
).decode()


def sends(*texts: str, code: int | None = None) -> Script:
    async def script(socket: ServerConnection) -> None:
        for text in (WELCOME, *texts):
            await socket.send(text)
        if code:
            await socket.close(code)

    return script


async def heard(gateway: Gateway, connection: int, frame: dict[str, Any]) -> None:
    async with asyncio.timeout(10):
        while frame not in gateway.heard[connection]:  # noqa: ASYNC110 - the script tells nobody
            await asyncio.sleep(0.01)


async def test_it_says_hello_shows_and_acknowledges() -> None:
    async with Gateway(sends(entry(1), entry(2))).open() as gateway, Client(gateway.url).running() as client:
        await client.shows(1, 2)
        await heard(gateway, 0, {"type": "ack", "log": LOG, "seq": 2})
    assert gateway.heard[0][0] == {"type": "hello", "client": "tocsin-cli", "device": "d"}
    assert gateway.paths == ["/ws?token=token-1&hello=1"]


async def test_after_a_lost_connection_it_comes_back_with_cursors_and_shows_repeats_once() -> None:
    gateway = Gateway(sends(entry(1), entry(2), code=1011), sends(entry(2), entry(3)))
    async with gateway.open(), Client(gateway.url).running() as client:
        await client.shows(1, 2, 3)
    hello = gateway.heard[1][0]
    assert (hello["epoch"], hello["cursors"]) == ("e", {LOG: 2})


async def test_it_asks_for_a_hole() -> None:
    async def script(socket: ServerConnection) -> None:
        await sends(entry(1), entry(4))(socket)
        await heard(gateway, 0, {"type": "sync", "log": LOG, "after": 1})
        for seq in (2, 3, 4):
            await socket.send(entry(seq))

    gateway = Gateway(script)
    async with gateway.open(), Client(gateway.url).running() as client:
        await client.shows(1, 2, 3, 4)


async def test_an_expired_token_is_replaced_at_once() -> None:
    gateway = Gateway(sends(code=4005), sends(entry(1)))
    async with gateway.open(), Client(gateway.url).running() as client:
        await client.shows(1)
    assert gateway.paths[1] == "/ws?token=token-2&hello=1"


async def test_it_comes_back_when_the_gateway_said() -> None:
    goodbye = frames.encode(frames.Reconnect(after=50)).decode()
    async with Gateway(sends(goodbye, code=4001), sends(entry(1))).open() as gateway:
        async with Client(gateway.url).running() as client:
            await client.shows(1)
        assert "connection lost; back in 0.1 s" in client.notes


async def test_a_terminal_code_ends_it() -> None:
    async with Gateway(sends(code=4103)).open() as gateway:
        with pytest.raises(Ended, match="4103"):
            await Client(gateway.url).run()


async def refuses(socket: ServerConnection) -> None:
    await socket.close(4101, "the token has expired (`exp`)")


async def test_a_refused_token_ends_it() -> None:
    async with Gateway(refuses).open() as gateway:
        with pytest.raises(BadToken, match="refused the token: the token has expired"):
            await Client(gateway.url).run()


async def test_another_refusal_is_told_with_its_status() -> None:
    async with Gateway(status=HTTPStatus.NOT_FOUND).open() as gateway:
        with pytest.raises(Ended, match="answered HTTP 404"):
            await Client(gateway.url).run()


async def test_a_gateway_that_is_not_ready_is_asked_again() -> None:
    gateway = Gateway(status=HTTPStatus.SERVICE_UNAVAILABLE)
    async with gateway.open(), Client(gateway.url).running() as client, asyncio.timeout(10):
        while len(gateway.paths) < 3:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    assert client.notes[0] == "the gateway is not ready (HTTP 503)"


async def test_a_limit_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.connection.SLOWED", 0.5)
    gateway = Gateway(status=HTTPStatus.TOO_MANY_REQUESTS)
    async with gateway.open(), Client(gateway.url).running() as client, asyncio.timeout(10):
        while len(client.notes) < 3:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    assert client.notes[:2] == ["the gateway is not ready (HTTP 429)", "connection lost; back in 0.5 s"]


async def test_an_output_that_fails_is_no_lost_connection() -> None:
    async def breaks(_: Step) -> None:
        raise BrokenPipeError

    async with Gateway(sends(entry(1))).open() as gateway:
        connection = Connection(gateway.url, Device(Cursors()), token=lambda: "t", on_step=breaks, say=print)
        with pytest.raises(BrokenPipeError):
            await asyncio.wait_for(connection.run(), 10)


async def test_nothing_there_at_first_is_said(free_port: int) -> None:
    with pytest.raises(Unreachable, match=f"no gateway answers at ws://127.0.0.1:{free_port}/ws"):
        await Client(f"ws://127.0.0.1:{free_port}/ws").run()


async def test_a_frame_that_is_not_understood_is_told_and_the_rest_goes_on() -> None:
    async with Gateway(sends("{", entry(1))).open() as gateway, Client(gateway.url).running() as client:
        await client.shows(1)
    assert client.notes[0].startswith("a frame was not understood")
