"""What leaves a WebSocket and by which way: one order, and nothing to a socket that is closed."""

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from gateway.config import GatewayConfig
from gateway.framing import framed
from gateway.handshake import Handshake
from gateway.hub import Hub
from gateway.passing import LANGUAGE
from gateway.websocket import WebSocket
from telemetry.gateway import GatewayMetrics


class Transport:
    """The transport of a socket: it says that it holds nothing, and keeps what it is given for later."""

    def __init__(self, here: socket.socket) -> None:
        self._socket = here
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert high > low

    def get_extra_info(self, name: str) -> Any:
        return self._socket if name == "socket" else None


class Unlisted:
    """Nobody keeps a list of connections."""

    def listed(self, socket: WebSocket) -> None:
        pass

    def unlisted(self, socket: WebSocket) -> None:
        pass


class Open(Handshake):
    """A handshake that nobody begins."""

    def __init__(self) -> None:
        pass


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        yield here, there


def connected(transport: Transport) -> WebSocket:
    config = GatewayConfig(id="g", kafka={}, redis="", secret="a secret of 32 bytes at the least")
    hub = Hub(config, 1, GatewayMetrics(CollectorRegistry()), lambda: 1_000.0, lambda: None)
    one = WebSocket(hub, Open(), Unlisted())
    one.connection_made(cast("Any", transport))
    return one


def test_what_a_session_says_and_what_passes_it_leave_in_one_order(pair: Any) -> None:
    (_, there), transport = pair, Transport(pair[0])
    one = connected(transport)
    one.way.send(framed(b"1"))
    one.send([b"2"])
    one.way.send(framed(b"3"))
    left = there.recv(100) if LANGUAGE == "C" else transport.written
    assert left == framed(b"1") + framed(b"2") + framed(b"3")


def test_nothing_is_written_to_the_socket_of_a_lost_connection(pair: Any) -> None:
    (_, there), transport = pair, Transport(pair[0])
    one = connected(transport)
    one.way.send(b"before")
    one.connection_lost(None)
    if LANGUAGE == "C":
        assert there.recv(100) == b"before"
    one.way.send(b"after")  # the number of the socket may be that of another connection now
    with pytest.raises(BlockingIOError):
        there.recv(100)
    assert transport.written.endswith(b"after")
