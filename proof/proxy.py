"""A TCP proxy on loopback that breaks connections on purpose.

A `Proxy` stands between a client and a server and passes bytes on until it is told otherwise. What it does is set for
each direction apart (`to_server`, `to_client`) and holds for connections that are open and for those that come:

`passing`    passes bytes on (at the start, and after `heal`);
`hang`       takes bytes and passes none on until healed: a half-open connection, a network that drops everything;
`delay`      passes bytes on, each `seconds` later;
`trickle`    passes at most so many bytes a second.

And for whole connections: `cut` ends those that are open with RST, `half_close` ends one direction with FIN, `refuse`
does not listen any more, `alter` puts a filter on what clients say (see `proof.publishes`).
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Literal, Self, TypeAlias

from stack.ports import LOOPBACK, free_port

Direction: TypeAlias = Literal["to_server", "to_client"]
Filter: TypeAlias = Callable[[bytes], bytes]  # what a client says → what the server hears

BOTH: Final[tuple[Direction, Direction]] = ("to_server", "to_client")
_CHUNK: Final = 1 << 16  # bytes
_SLICE: Final = 0.05  # s; a trickle moves this often
_RST: Final = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends RST


class Flow:
    """How one direction behaves now; `changed` is replaced and set at each change, for those that wait."""

    def __init__(self) -> None:
        self.hanging = False
        self.delay = 0.0  # s
        self.rate = 0.0  # bytes a second; 0: no limit
        self.changed = asyncio.Event()

    def become(self, *, hanging: bool = False, delay: float = 0.0, rate: float = 0.0) -> None:
        """Behave so from now on."""
        self.hanging, self.delay, self.rate = hanging, delay, rate
        self.changed.set()
        self.changed = asyncio.Event()


class Proxy:
    """Passes connections to `port` of loopback on to `target` (host:port); `async with` opens and closes it."""

    def __init__(self, target: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.connections = 0  # taken so far
        self.passed = {"to_server": 0, "to_client": 0}  # bytes
        self._host, _, target_port = target.rpartition(":")
        self._target_port = int(target_port)
        self._flows: dict[Direction, Flow] = {"to_server": Flow(), "to_client": Flow()}
        self._filter: Callable[[], Filter] | None = None
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where clients find it: host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def listen(self) -> None:
        """Take connections (again); nothing happens if it does so already."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, limit=_CHUNK)

    def refuse(self) -> None:
        """Take no connections: whoever tries is refused. Those that are open stay; `heal` listens again."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """End all open connections with RST, on both sides."""
        for connection in list(self._open):
            connection.reset()

    def half_close(self, direction: Direction) -> None:
        """End one direction of all open connections with FIN; the other goes on."""
        for connection in list(self._open):
            connection.finish(direction)

    def hang(self, *directions: Direction) -> None:
        """Pass nothing on, on open and on new connections; both directions if none is named."""
        self._become(directions, hanging=True)

    def delay(self, seconds: float, *directions: Direction) -> None:
        """Pass bytes on so much later."""
        self._become(directions, delay=seconds)

    def trickle(self, rate: float, *directions: Direction) -> None:
        """Pass at most so many bytes a second and connection on."""
        self._become(directions, rate=rate)

    def alter(self, make: Callable[[], Filter] | None) -> None:
        """Give what clients say to a filter, one made for each connection that comes; None: to no filter."""
        self._filter = make

    async def heal(self) -> None:
        """Listen, and pass everything on; what hung is passed on now. A filter stays until `alter(None)`."""
        self._become(())
        await self.listen()

    async def close(self) -> None:
        """End everything."""
        self.refuse()
        self.cut()
        await asyncio.gather(*(connection.done.wait() for connection in list(self._open)))

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _become(self, directions: tuple[Direction, ...], **how: Any) -> None:
        for direction in directions or BOTH:
            self._flows[direction].become(**how)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = _Connection(self, reader, writer)
        self._open.add(connection)
        try:
            await connection.run(self._host, self._target_port, self._filter() if self._filter else None)
        finally:
            self._open.discard(connection)
            connection.done.set()

    def flow(self, direction: Direction) -> Flow:
        """Return how a direction behaves."""
        return self._flows[direction]


class _Connection:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.done = asyncio.Event()
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers: dict[Direction, asyncio.StreamWriter] = {"to_client": writer}
        self._tasks: dict[Direction, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()

    async def run(self, host: str, port: int, chosen: Filter | None) -> None:
        """Pass bytes until both directions have ended."""
        reader, writer = self._client
        _set_nodelay(writer)
        try:
            from_server, to_server = await asyncio.open_connection(host, port, limit=_CHUNK)
        except OSError:  # the server is away: so is its proxy
            _abort(writer)
            return
        _set_nodelay(to_server)
        self._writers["to_server"] = to_server
        self._tasks = {
            "to_server": asyncio.create_task(self._pump("to_server", reader, to_server, chosen)),
            "to_client": asyncio.create_task(self._pump("to_client", from_server, writer, None)),
        }
        try:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        finally:
            for task in self._tasks.values():
                task.cancel()
            for each in self._writers.values():
                each.close()

    def reset(self) -> None:
        """End both connections with RST."""
        for writer in self._writers.values():
            _abort(writer)
        for task in self._tasks.values():
            task.cancel()

    def finish(self, direction: Direction) -> None:
        """End one direction with FIN."""
        if direction in self._tasks:
            self._tasks[direction].cancel()
            with contextlib.suppress(OSError, RuntimeError):  # it has ended meanwhile
                self._writers[direction].write_eof()

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chosen: Filter | None
    ) -> None:
        flow = self._proxy.flow(direction)
        try:
            while data := await reader.read(_CHUNK):
                if chosen is not None:
                    data = chosen(data)
                await self._pass_on(flow, writer, data)
                self._proxy.passed[direction] += len(data)
            while flow.hanging:
                await flow.changed.wait()
            writer.write_eof()
        except OSError:  # one side has reset: so does the other
            self.reset()

    async def _pass_on(self, flow: Flow, writer: asyncio.StreamWriter, data: bytes) -> None:
        while flow.hanging:
            await flow.changed.wait()
        if flow.delay:
            await asyncio.sleep(flow.delay)  # the fault itself
        while flow.rate and data:
            size = max(1, int(flow.rate * _SLICE))
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            await asyncio.sleep(size / flow.rate)  # the fault itself
        if data:
            writer.write(data)
            await writer.drain()


def _set_nodelay(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()
