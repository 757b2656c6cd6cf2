"""The door of a port that speaks TLS: who has no room is sent off before the handshake, the dearest part."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

from gateway.admission import Caller
from gateway.hub import Hub
from gateway.opening import OPENING
from gateway.websocket import WebSocket, address_of

log = logging.getLogger(__name__)


class Door(asyncio.Protocol):
    """One TCP connection before its TLS handshake; what comes through is a `WebSocket`'s.

    The handshake has a transport of its own, on a duplicate of the socket. `start_tls` would begin it too late: uvloop
    cannot be told to read nothing until then, and what it read would be lost.
    """

    def __init__(self, hub: Hub, context: ssl.SSLContext, accept: Callable[[Caller], WebSocket]) -> None:
        self._hub = hub
        self._context = context
        self._accept = accept
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, or end the connection: there is nothing that could be said without one."""
        outer = cast("asyncio.Transport", transport)
        caller = self._hub.admission.arrive(address_of(outer), self._hub.clock())
        try:
            if caller.over is None:
                ours = outer.get_extra_info("socket").dup()
                ours.setblocking(False)
                self._task = asyncio.get_running_loop().create_task(self._shake_hands(ours, caller))
        except OSError as exc:
            log.warning("no TLS handshake: %s", exc)
        if self._task is None:
            caller.leave(self._hub.clock())
        outer.abort()

    async def _shake_hands(self, ours: socket.socket, caller: Caller) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                partial(self._accept, caller), ours, ssl=self._context, ssl_handshake_timeout=OPENING
            )
        except (OSError, asyncio.CancelledError) as exc:  # errors of TLS are among them
            log.debug("no TLS handshake: %s", exc)
            caller.leave(self._hub.clock())
            ours.close()
