"""A WebSocket as asyncio and the clock see it. Whatever one of their calls raises ends this connection and no other."""

import asyncio
import logging
from typing import Final, Protocol, cast

from gateway import codes
from gateway.admission import Caller
from gateway.auth import Claims
from gateway.connection import CLOSING, Connection
from gateway.entrance import Entered
from gateway.framing import PING
from gateway.handshake import Handshake
from gateway.hub import Hub
from gateway.opening import Opening
from gateway.passing import Way
from gateway.reading import SOFT

log = logging.getLogger(__name__)

LINGER: Final = 1.0  # s that a refused client may take to read why
LOOK_AGAIN: Final = 1.0  # s between looks at a transport that is stuck
PAUSE: Final = 0.05  # s between turns of a connection that has no session yet
PARTING: Final = 0.01  # s between turns of a connection that is being closed
PARTING_TURN: Final = 1_024  # frames of such a turn: each is only looked at for whether it answers the close
TURN: Final = 64  # frames of one connection that are dealt with before others may run
LOW: Final = 16 * 1024  # bytes in the write buffer below which a stuck transport has drained


def address_of(transport: asyncio.Transport) -> str | None:
    """Return the address that a connection comes from, None if it has none."""
    name = transport.get_extra_info("peername")
    return name[0] if isinstance(name, tuple) and name else None


def way_of(transport: asyncio.Transport) -> Way:
    """Return how bytes leave a transport; what TLS has to encrypt leaves by the transport alone."""
    socket = None if transport.get_extra_info("ssl_object") else transport.get_extra_info("socket")
    return Way(transport.write, transport.get_write_buffer_size, -1 if socket is None else socket.fileno())


class Listing(Protocol):
    """Who keeps the connections of a process."""

    def listed(self, socket: "WebSocket") -> None:
        """Take note of a connection, which is there now: with TLS many never are."""

    def unlisted(self, socket: "WebSocket") -> None:
        """Take note of its end."""


class WebSocket(Connection, asyncio.Protocol):
    """One connection, from the TCP connection to its end. `transport` of the session's peer."""

    __slots__ = ("_caller", "_listing", "_ping_at", "_resting", "_seen", "_turned_away")

    def __init__(self, hub: Hub, handshake: Handshake, listing: Listing, caller: Caller | None = None) -> None:
        """`caller` is given where its arrival has been noted already."""
        super().__init__(hub)
        self._listing = listing
        self._opening = Opening(hub, handshake, self)
        self._caller = caller
        self._resting: asyncio.TimerHandle | None = None  # nothing is read until then
        self._seen = self._clock()
        self._ping_at = float("inf")
        self._turned_away = False  # what it still says is not read

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request."""
        self._transport = cast("asyncio.Transport", transport)
        self._seen = now = self._clock()
        try:
            self.way = way_of(self._transport)
            self._transport.set_write_buffer_limits(high=SOFT, low=LOW)
            self._listing.listed(self)
            if self._caller is None:
                self._caller = self._hub.admission.arrive(address_of(self._transport), now)
            if self._opening is not None:
                self._opening.enter(self._caller)
            self._hub.wheel.schedule(self, self._due())
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends. What that raises ends this connection and no other."""
        self._seen = now = self._clock()
        try:
            if (opening := self._opening) is not None and opening.asks:
                data = opening.take(data)
            if self._resting is not None or (opening is not None and opening.proving):
                self._incoming.keep(data)
            elif data and not self._turned_away:
                self._read(data, now)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(exc)

    def eof_received(self) -> None:
        """Take note that the client sends no more; the connection closes."""
        try:
            if self._opening is not None:
                self._opening.cut_off()
            if self._protocol is not None:
                self._protocol.receive_eof()
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """Forget the connection."""
        now = self._clock()
        self.way.shut()
        self._close_by = self._ping_at = float("inf")
        self._end_opening()
        if self._resting is not None:
            self._resting.cancel()
        if self._caller is not None:
            self._caller.leave(now)
        self._listing.unlisted(self)
        self._leave(self._close_code(), now)

    def pause_writing(self) -> None:
        """More than SOFT bytes wait; what the session cannot do at once it does with its next flush or look."""
        self._paused = True
        if self._peer is not None:
            try:
                self._peer.session.choke(self._transport.get_write_buffer_size())
            except Exception as exc:  # noqa: BLE001 - `fail` logs it
                self.fail(exc)
        self._hub.wheel.schedule(self, self._clock() + LOOK_AGAIN)

    def resume_writing(self) -> None:
        """Less than LOW bytes wait."""
        self._paused = False
        # Not at once: this may be called from within a write.
        asyncio.get_running_loop().call_soon(self._drained)

    def _drained(self) -> None:
        if self._peer is not None and not self._paused:
            self._hub.buffered(self._peer, 0, self._clock())

    # What becomes of its opening

    def turn_away(self, entered: Entered | None) -> None:
        """Answer a request that does not become a WebSocket, and close once the client has had time to read it.

        To close at once would reset the connection if the client still sends, and the answer would be lost.
        """
        self._end_opening()
        self._turned_away = True
        if entered is None:
            self._transport.close()
            return
        self._hub.metrics.refused.labels(entered.status).inc()
        self.way.send(entered.answer)
        if self._caller is not None and not self._caller.lingers:
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._close_by = self._clock() + LINGER
        self._hub.wheel.schedule(self, self._close_by)

    def refuse(self, code: int, reason: str) -> None:
        """End a connection that never became a session."""
        self._end_opening()
        self._hub.metrics.refused.labels(code).inc()
        self.close(code, reason)

    def begin(self, claims: Claims, said: bytes | None, *, hello: bool) -> None:
        """Begin the session of a user; `said` is what it is to hear first."""
        now = self._clock()
        self._end_opening()
        self._caller = self._caller if self._caller is not None and self._caller.holds else None
        self._ping_at = now + self._hub.config.heartbeat
        self._peer = self._hub.admit(self, claims, hello=hello, now=now)
        self._hub.wheel.schedule(self, self._due())
        if said is not None:
            self._hub.receive(self._peer, said, now)

    def fail(self, exc: Exception) -> None:
        """End the connection, in which an exception was raised."""
        if self._peer is not None:
            self._hub.fail(self._peer, exc, self._clock())
            return
        self._end_opening()
        log.error("a connection failed and is cut off", exc_info=exc)
        self._hub.metrics.failed.inc()
        self.abort()

    # What comes in

    def _read(self, data: bytes, now: float) -> None:
        """Deal with some frames of what came. What is more than a turn or than the user may say is left for later.

        So a client that says too much slows itself down, and neither the loop nor its own deliveries.
        """
        incoming, wait = self._incoming, 0.0
        # One by one before a session: what follows `hello` may have to wait for its token.
        frames = incoming.cut(data, self._turn())
        if frames:
            self._take_frames(frames, now)
        if self._opening is not None and self._opening.proving:
            return
        if (peer := self._peer) is not None and (wait := peer.session.out.allowance.read(now, len(frames), len(data))):
            self._hub.limited("user_reads", peer.session.user)
        if peer is None and (incoming.left or (frames and self._opening is not None)):
            wait = PARTING if self._opening is None else PAUSE  # no user's budget bounds it
        if wait or incoming.left:
            self._rest(wait)

    def _turn(self) -> int:
        if self._opening is not None:
            return 1
        return TURN if self._peer is not None else PARTING_TURN

    def _rest(self, wait: float) -> None:
        if self._resting is None:
            self.pause()
            self._resting = self._hub.later(wait, self._read_on)

    def _read_on(self) -> None:
        self._resting = None
        self.go_on()

    def pause(self) -> None:
        """Read nothing until `go_on`, be it for a rest or for a proof."""
        self._transport.pause_reading()

    def _waits(self) -> bool:
        """Tell whether nothing is to be read: the end of a proof does not end a rest, nor the other way round."""
        proving = self._opening is not None and self._opening.proving
        return proving or self._resting is not None or self._transport.is_closing()

    def go_on(self) -> None:
        """Deal with what came meanwhile, and read on, unless there is another reason not to."""
        if self._waits():
            return
        self._seen = self._clock()
        try:
            self._read(b"", self._seen)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(exc)
        if not self._waits():  # what a client answers to a close is read, too
            self._transport.resume_reading()

    # The clock

    def visit(self, now: float) -> float:
        """Ping, end what is silent, and let the session do what is due. What that raises ends this connection only."""
        try:
            return self._visit(now)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(exc)
            return self._due()

    def _visit(self, now: float) -> float:
        if self._opening is not None and now >= self._opening.by:
            self._opening.late()
        if now >= self._close_by:
            return self._end(now)
        if self._peer is None:
            return self._due()
        if now >= self._seen + self._hub.config.idle:
            self.close(codes.SILENT, codes.REASONS[codes.SILENT])
            return self._due()
        if now >= self._ping_at:
            self._ping_at = now + self._hub.config.heartbeat
            self.way.send(PING)
        if self._paused:
            self._hub.buffered(self._peer, self._transport.get_write_buffer_size(), now)
        due = self._hub.tick(self._peer, now) if self._peer is not None else float("inf")
        return min(due, self._due())

    def _end(self, now: float) -> float:
        if self._turned_away and not self._transport.is_closing():
            self._transport.close()
            self._close_by = now + CLOSING
            return self._close_by
        self.abort()
        return float("inf")

    def _due(self) -> float:
        due = self._close_by if self._opening is None else self._opening.by
        if self._peer is not None:
            due = min(due, self._ping_at, self._seen + self._hub.config.idle)
            if self._paused:
                due = min(due, self._clock() + LOOK_AGAIN)
        return due
