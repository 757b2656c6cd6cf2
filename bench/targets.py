"""What is measured side by side: servers that hold WebSocket connections, each fed by the Redis channel `bench`.

A target runs on the cores `SERVER`; the load, Redis and whatever only feeds a target run on the others. All do the same
work: check a token (where they know any), let a client in, send it what is published for it, in order.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.crowd.driver import Speech
from bench.native import built_c, built_go, installed_npm
from bench.topics import make_topics
from schemas.errors import ServerFailed
from stack.child import Child
from stack.ports import LOOPBACK, free_port
from stack.servers import Kafka, Redis

PEERS: Final = Path(__file__).parent / "peers"
SERVER: Final = {0}
LOAD: Final = set(range(1, os.cpu_count() or 2)) or {0}
SECRET: Final = "the benchmarks' own secret, which is none at all"
PARTITIONS: Final = 4
READY: Final = 60.0  # s
EACH: Final = 17_000  # connections of one process, whose descriptors are 20,000


def processes_for(connections: int) -> int:
    """Return how many processes it takes to hold so many connections."""
    return -(-connections // EACH)


class Stage(msgspec.Struct, frozen=True):
    """What targets stand on: servers that run, a folder for logs, and how many clients will come."""

    kafka: Kafka
    redis: Redis
    folder: Path


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A target that runs. `pids`: the processes that are measured; `feeders`: those that only feed it."""

    name: str
    speech: Speech
    addresses: list[str]
    pids: Mapping[str, int]
    feeders: Mapping[str, int] = {}
    tokens: bool = False


_CONNECT: Final = '{"id":1,"connect":{"token":"{token}"}}\n{"id":2,"subscribe":{"channel":"u{n}"'


def speaking(log: str) -> Speech:
    """Return how a gateway is spoken to by clients whose entries are all in one log."""
    return Speech(
        request="/ws?hello=1&token={token}",
        first='{"type":"hello"}',
        again=f'{{"type":"hello","epoch":"{{epoch}}","cursors":{{"{log}":{{seq}}}}}}',
        joined='"welcome"',
        ack=f'{{"type":"ack","log":"{log}","seq":{{seq}}}}',
        epoch='"epoch":"',
        seq='"seq":',
    )


SPEECHES: Final[Mapping[str, Speech]] = {
    "tocsin": speaking("inbox/normal"),
    "centrifuge": Speech(
        request="/connection",
        first=_CONNECT + "}}",
        again=_CONNECT + ',"recover":true,"epoch":"{epoch}","offset":{seq}}}',
        joined='"subscribe":{',
        ping="{}",
        pong="{}",
        epoch='"epoch":"',
        seq='"offset":',
    ),
    "socketio": Speech(
        request="/socket.io/?EIO=4&transport=websocket&token={token}", first="40", joined='40{"sid"', ping="2", pong="3"
    ),
    "bare": Speech(request="/?n={n}"),  # no tokens, no words
}

Start = Callable[[Stage, bool], contextlib.AbstractAsyncContextManager[Target]]


def on_cores(cores: set[int], command: Sequence[str]) -> list[str]:
    """Return a command that runs on some cores, from its first moment on."""
    return ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]


@contextlib.contextmanager
def running(stage: Stage, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Any:
    """Run a child for the time of the context, with this environment added to ours."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("TOCSIN_")}
    log = stage.folder / f"{name}.log"
    log.unlink(missing_ok=True)  # what it says is waited for
    child = Child(name, command, log=log, environment=ours | dict(environment or {}))
    child.spawn()
    try:
        yield child
    finally:
        child.stop(10.0)


async def until(child: Child, ready: Callable[[], bool]) -> None:
    """Wait for a child. Raises `ServerFailed`."""
    end = time.monotonic() + READY
    while not await asyncio.to_thread(ready):
        if not child.running or time.monotonic() > end:
            raise ServerFailed(child.obituary())
        await asyncio.sleep(0.05)


def answers(url: str) -> Callable[[], bool]:
    """Return a question whether something at `url` answers."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except urllib.error.HTTPError as exc:
            exc.close()
            return exc.code < 500
        except OSError:
            return False

    return ask


def says_ready(child: Child) -> Callable[[], bool]:
    """Return a question whether a child has printed `ready`."""
    return lambda: "ready" in child.log.read_text()


@contextlib.asynccontextmanager
async def ceiling(stage: Stage, _everybody: bool) -> AsyncIterator[Target]:
    """Start a loop of send() in C."""
    port = free_port()
    program = str(built_c("ceiling", [PEERS / "ceiling.c"]))
    command = on_cores(SERVER, [program, str(port), str(stage.redis.port)])
    with running(stage, "ceiling", command) as child:
        await until(child, lambda: _accepts(port))
        yield Target(
            name="C send() loop",
            speech=SPEECHES["bare"],
            addresses=[f"{LOOPBACK}:{port}"],
            pids={"server": child.pid},
        )


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


@contextlib.asynccontextmanager
async def centrifuge(
    stage: Stage, everybody: bool, *, processes: int = 1, apart: bool = False
) -> AsyncIterator[Target]:
    """Start the library centrifuge with its Redis broker; its first process publishes as well, or one `apart`."""
    ports = [free_port() for _ in range(processes)]
    program = str(built_go("centrifuge-peer", PEERS / "centrifuge"))
    redis = ["-redis", f"{LOOPBACK}:{stage.redis.port}"]
    holds = [program, "-secret", SECRET, *redis, "-listen"]
    with contextlib.ExitStack() as children:
        feeders = {}
        if apart:
            feeds = on_cores(LOAD, [program, "-feed", *redis])
            feeders["publisher"] = children.enter_context(running(stage, "centrifuge-feed", feeds)).pid
        servers = []
        for number, port in enumerate(ports):
            command = [*holds, f"{LOOPBACK}:{port}", *(() if number or apart else ("-feed",))]
            servers.append(children.enter_context(running(stage, f"centrifuge-{port}", on_cores(SERVER, command))))
        for port, server in zip(ports, servers, strict=True):
            await until(server, answers(f"http://{LOOPBACK}:{port}/metrics"))
        speech = SPEECHES["centrifuge"]
        if everybody:
            speech = msgspec.structs.replace(speech, first=speech.first.replace("u{n}", "all"))
        yield Target(
            name="centrifuge, connections only" if apart else "centrifuge, Redis",
            speech=speech,
            addresses=[f"{LOOPBACK}:{port}" for port in ports],
            pids={f"server {port}": server.pid for port, server in zip(ports, servers, strict=True)},
            feeders=feeders,
            tokens=True,
        )


@contextlib.asynccontextmanager
async def gateway(stage: Stage, _everybody: bool, *, processes: int = 1, acks: bool = True) -> AsyncIterator[Target]:
    """Start our gateways; a stand-in takes the part of the workers. Without `acks` clients say as little as peers'."""
    prefix = f"g{time.monotonic_ns() // 1_000_000}-"
    names = [f"{prefix}{name}" for name in ("connections", "acks", "revocations")]
    await make_topics(stage.kafka.address, names, PARTITIONS)
    port, health = free_port(), [free_port() for _ in range(processes)]
    settings = {
        "TOCSIN_KAFKA": stage.kafka.address,
        "TOCSIN_REDIS": stage.redis.url,
        "TOCSIN_PREFIX": prefix,
        "TOCSIN_SECRET": SECRET,
        "TOCSIN_PORT": str(port),
        "TOCSIN_DRAIN": "0.1",
    }
    feed = [sys.executable, "-m", "bench.standin", "--kafka", stage.kafka.address, "--redis", stage.redis.url]
    with contextlib.ExitStack() as children:
        feeder = children.enter_context(running(stage, "standin", on_cores(LOAD, [*feed, "--prefix", prefix])))
        gateways = [
            children.enter_context(
                running(
                    stage,
                    f"gateway-{number}",
                    on_cores(SERVER, [sys.executable, "-m", "cli", "gateway"]),
                    settings | {"TOCSIN_METRICS_PORT": str(health[number])},
                )
            )
            for number in range(processes)
        ]
        await until(feeder, says_ready(feeder))
        for number, child in enumerate(gateways):
            await until(child, answers(f"http://{LOOPBACK}:{health[number]}/health/ready"))
        yield Target(
            name="Tocsin, gateway" if acks else "Tocsin, gateway, no acks",
            speech=SPEECHES["tocsin"] if acks else msgspec.structs.replace(SPEECHES["tocsin"], ack=""),
            addresses=[f"{LOOPBACK}:{port}"],
            pids={f"gateway {number}": child.pid for number, child in enumerate(gateways)},
            feeders={"stand-in": feeder.pid},
            tokens=True,
        )


@contextlib.asynccontextmanager
async def socketio(stage: Stage, _everybody: bool) -> AsyncIterator[Target]:
    """Start socket.io with its Redis Streams adapter and connection state recovery; a second process publishes."""
    port = free_port()
    script = str(installed_npm("socketio", PEERS / "socketio") / "server.mjs")
    holds = on_cores(SERVER, ["node", script, "hold", str(port), stage.redis.url, SECRET])
    feeds = on_cores(LOAD, ["node", script, "feed", stage.redis.url])
    with running(stage, "socketio", holds) as server, running(stage, "socketio-feed", feeds) as feeder:
        await until(server, says_ready(server))
        await until(feeder, says_ready(feeder))
        yield Target(
            name="socket.io, Redis",
            speech=SPEECHES["socketio"],
            addresses=[f"{LOOPBACK}:{port}"],
            pids={"server": server.pid},
            feeders={"publisher": feeder.pid},
            tokens=True,
        )


@contextlib.asynccontextmanager
async def broadcast(stage: Stage, _everybody: bool) -> AsyncIterator[Target]:
    """Start `websockets` with its own `broadcast`."""
    port = free_port()
    command = on_cores(SERVER, [sys.executable, "-m", "bench.peers.broadcast", str(port), stage.redis.url])
    with running(stage, "broadcast", command) as child:
        await until(child, lambda: _accepts(port))
        yield Target(
            name="websockets, broadcast()",
            speech=SPEECHES["bare"],
            addresses=[f"{LOOPBACK}:{port}"],
            pids={"server": child.pid},
        )


TARGETS: Final[Mapping[str, Start]] = {
    "tocsin": gateway,
    "tocsin-no-acks": partial(gateway, acks=False),
    "centrifuge": centrifuge,
    "centrifuge-apart": partial(centrifuge, apart=True),
    "socketio": socketio,
    "websockets": broadcast,
    "ceiling": ceiling,
}
