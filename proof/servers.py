"""The servers that experiments share: Kafka, Redis and Cassandra, each started when first asked for.

Each has a door of its own for a proxy (`proxied`), at a port that stays the same, so that a proxy can stand there while
an experiment wants one. Kafka tells its clients where it is, so clients that come in by the proxied door are told the
proxy's port and stay behind it, and clients at the other door never meet the proxy.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from proof.proxy import Proxy
from stack.ports import LOOPBACK, free_port, free_ports
from stack.servers import Cassandra, Kafka, Redis, Server

Name: TypeAlias = Literal["kafka", "redis", "cassandra"]

NAMES: Final[tuple[Name, ...]] = ("kafka", "redis", "cassandra")
_LOOK_EVERY: Final = 0.05  # s


class TwoDoored(Kafka):
    """A broker with a second listener, whose advertised port is that of a proxy."""

    def __init__(self, folder: Path, port: int = 0, *, log: Path | None = None) -> None:
        super().__init__(folder, port, log=log)
        self.inner, self.proxied = free_ports(2)

    def _properties(self, data: Path) -> str:
        more = {
            "listeners": f",PROXIED://{LOOPBACK}:{self.inner}",
            "advertised.listeners": f",PROXIED://{LOOPBACK}:{self.proxied}",
            "listener.security.protocol.map": ",PROXIED:PLAINTEXT",
        }
        lines = super()._properties(data).splitlines()
        return "\n".join(line + more.get(line.partition("=")[0], "") for line in lines) + "\n"


class Servers:
    """Servers with their data below `folder`; a context that ends them. Starting is for the main thread."""

    def __init__(self, folder: Path) -> None:
        self.kafka = TwoDoored(folder / "kafka")
        self.redis = Redis(folder / "redis")
        self.cassandra = Cassandra(folder / "cassandra")
        self._all: Mapping[Name, Server] = {"kafka": self.kafka, "redis": self.redis, "cassandra": self.cassandra}
        self._doors = {
            "kafka": (self.kafka.inner, self.kafka.proxied),
            "redis": (self.redis.port, free_port()),
            "cassandra": (self.cassandra.port, free_port()),
        }
        self._wanted: set[Name] = set()

    def proxy(self, name: Name) -> Proxy:
        """Return a proxy for a server, not yet listening, at the port where clients look for it."""
        inner, outer = self._doors[name]
        return Proxy(f"{LOOPBACK}:{inner}", outer)

    def address(self, name: Name, *, proxied: bool = False) -> str:
        """Return where clients find a server (host:port), by way of its proxy or not."""
        return f"{LOOPBACK}:{self._doors[name][1]}" if proxied else self._all[name].address

    async def start(self, *names: Name) -> None:
        """Start what does not run, and return when all named answer. Raises `ServerFailed`."""
        self._wanted.update(names)
        for name in names:
            if not self._all[name].running:
                self._all[name].spawn()
        for name in names:
            while not await asyncio.to_thread(self._all[name].ready):  # noqa: ASYNC110 - another process: nobody sets an event
                await asyncio.sleep(_LOOK_EVERY)

    async def kill(self, name: Name) -> None:
        """End a server as kill -9 does; its data stays. `start` brings it back."""
        await asyncio.to_thread(self._all[name].kill)

    async def stop(self, name: Name) -> None:
        """End a server in good order; its data stays (that of Redis does not). `start` brings it back."""
        await asyncio.to_thread(self._all[name].stop)

    def freeze(self, name: Name) -> None:
        """Stop a server's process with SIGSTOP: its connections stay open and say nothing."""
        self._all[name].pause()

    def thaw(self, name: Name) -> None:
        """Let a frozen server go on."""
        self._all[name].resume()

    def pid(self, name: Name) -> int:
        """Return the process id of a server."""
        return self._all[name].pid

    async def heal(self) -> None:
        """Bring back whatever an experiment left frozen or ended."""
        for name in sorted(self._wanted):
            if self._all[name].running:
                self.thaw(name)
        await self.start(*sorted(self._wanted))

    def close(self) -> None:
        """End all servers."""
        for server in self._all.values():
            if server.running:
                os.kill(server.pid, signal.SIGCONT)
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
