"""The door of a port that speaks TLS: who has no room is sent off before the handshake, the dearest part."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from gateway.hub import Hub
from gateway.opening import OPENING
from gateway.websocket import WebSocket, address_of

log = logging.getLogger(__name__)


class Door(asyncio.Protocol):
    """One TCP connection until its TLS handshake is done; what comes through is a `WebSocket`'s."""

    def __init__(self, hub: Hub, context: ssl.SSLContext, accept: Callable[[], WebSocket]) -> None:
        self._hub = hub
        self._context = context
        self._accept = accept
        self._early = b""  # what came before the handshake took over
        self._first = b""  # what a client said right with the end of the handshake
        self._taken = False  # by the handshake
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, or end the connection: there is nothing that could be said without one."""
        outer = cast("asyncio.Transport", transport)
        self._caller = self._hub.admission.arrive(address_of(outer), self._hub.clock())
        if self._caller.over is not None:
            self._caller.leave(self._hub.clock())
            outer.abort()
            return
        # uvloop cannot be told to read nothing until the handshake takes over, so what comes meanwhile is played again:
        # behind the first step of the task, and behind what that step leaves to do.
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._begin(outer))
        loop.call_soon(loop.call_soon, self._replay, outer)

    def _replay(self, outer: asyncio.Transport) -> None:
        """Give the handshake what came before it."""
        early, handshake = self._early, cast("asyncio.BufferedProtocol", outer.get_protocol())
        while early and not outer.is_closing():
            room = memoryview(handshake.get_buffer(len(early)))[: len(early)]
            room[:] = early[: len(room)]
            handshake.buffer_updated(len(room))
            early = early[len(room) :]

    async def _begin(self, outer: asyncio.Transport) -> None:
        self._taken = True
        try:
            inner = await asyncio.get_running_loop().start_tls(
                outer, self, self._context, server_side=True, ssl_handshake_timeout=OPENING
            )
        except (OSError, asyncio.CancelledError) as exc:  # errors of TLS are among them
            log.debug("no TLS handshake: %s", exc)
            inner = None
        if inner is None or inner.is_closing():
            self._caller.leave(self._hub.clock())
            outer.abort()
            return
        socket = self._accept()
        inner.set_protocol(socket)
        socket.enter(self._caller, inner)
        if self._first:
            socket.data_received(self._first)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the handshake, and what comes with its end."""
        if self._taken:
            self._first += data
        else:
            self._early += data
