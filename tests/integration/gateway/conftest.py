"""A running gateway, with a real Redis and a small worker behind it, and real WebSocket clients."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
import websockets
from prometheus_client import CollectorRegistry

from gateway.app import Gateway
from gateway.config import GatewayConfig, gateway_id
from stack.servers import Redis
from tests.integration.gateway.worker import FakeWorker

SECRET = "a secret that only the tests know, long enough"


def token(user: str, *, ttl: float = 60, secret: str = SECRET, **claims: object) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + ttl, **claims}, secret, "HS256")


async def until(condition: Callable[[], object], deadline: float = 5.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.005)


class Unrevoked:
    """A source of revocations that has none; `tests/integration/gateway/test_revocations.py` has a real one."""

    async def run(self, take: Any, caught_up: Callable[[], None]) -> None:
        caught_up()
        await asyncio.Event().wait()

    def problem(self) -> str | None:
        return None


class Client:
    """A device: what it receives, parsed."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    async def next(self, deadline: float = 5.0) -> dict[str, Any]:
        async with asyncio.timeout(deadline):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
            return frame

    async def say(self, type_: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": type_, **fields}))

    async def seqs(self, count: int, deadline: float = 10.0) -> list[int]:
        """Return the seqs of the next `count` entries; nothing else may come between."""
        found: list[int] = []
        async with asyncio.timeout(deadline):
            while len(found) < count:
                frame = json.loads(await self.socket.recv())
                assert frame["type"] == "notification", frame
                found.append(frame["seq"])
        return found

    async def close_code(self, deadline: float = 5.0) -> int:
        async with asyncio.timeout(deadline):
            try:
                while True:
                    await self.socket.recv()
            except websockets.ConnectionClosed:
                return int(self.socket.close_code)


class Running:
    """A gateway under test."""

    def __init__(self, gateway: Gateway, worker: FakeWorker) -> None:
        self.gateway = gateway
        self.worker = worker

    def url(self, user: str = "u1", *, with_hello: bool = False, jwt_: str | None = None) -> str:
        hello = "&hello=1" if with_hello else ""
        return f"ws://127.0.0.1:{self.gateway.port}/ws?token={token(user) if jwt_ is None else jwt_}{hello}"

    @asynccontextmanager
    async def client(self, user: str = "u1", *, welcomed: bool = True, **kwargs: Any) -> AsyncIterator[Client]:
        options = {key: kwargs.pop(key) for key in ("with_hello", "jwt_") if key in kwargs}
        async with websockets.connect(self.url(user, **options), ping_interval=None, **kwargs) as socket:
            client = Client(socket)
            if welcomed:
                assert (await client.next())["type"] == "welcome"
            yield client

    def metric(self, name: str, **labels: str) -> float:
        return self.gateway._registry.get_sample_value(name, labels) or 0.0


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(redis_server: Redis) -> AsyncIterator[Start]:
    running: list[Running] = []

    async def begin(**settings: Any) -> Running:
        prefix = f"t{time.monotonic_ns()}-"
        url = settings.pop("redis", redis_server.url)
        worker = FakeWorker(url, prefix)
        settings = {"drain": 0.2, "port": 0, **settings}
        config = GatewayConfig(id=gateway_id("test"), kafka={}, redis=url, secret=SECRET, prefix=prefix, **settings)
        gateway = Gateway(config, registry=CollectorRegistry(), sender=worker, source=Unrevoked())
        running.append(Running(gateway, worker))
        await gateway.start()
        return running[-1]

    yield begin
    for one in running:
        await one.gateway.stop()


@pytest.fixture
async def gateway(start: Start) -> Running:
    return await start()
