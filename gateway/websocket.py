"""The WebSocket transport: our own reading and writing of what is usual, `websockets` Sans-I/O for everything else.

Frames out are built once and written through the asyncio transport, several joined into one write. No extension is
negotiated: compression would cost three times the memory and twice the CPU.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

from websockets.frames import Frame, Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from gateway import codes
from gateway.admission import Caller, Overload
from gateway.entrance import QUIET, Entered, Entrance, refused
from gateway.framing import PING, joined
from gateway.handshake import Admission, Handshake, Refusal
from gateway.hub import Hub
from gateway.incoming import Incoming, is_close, is_pong, text_of
from gateway.passing import Way
from gateway.peer import Peer
from gateway.reading import SOFT
from schemas.frames import MAX_FRAME

log = logging.getLogger(__name__)

OPENING: Final = 5.0  # s that the handshake may take
CLOSING: Final = 5.0  # s that a client may take to answer a close
LOOK_AGAIN: Final = 1.0  # s between looks at a transport that is stuck
MAX_FRAGMENTS: Final = 64  # fragments of one message
MAX_REASON: Final = 123  # bytes of the reason of a close: more does not fit into its frame
PARTING: Final = 0.05  # s between turns of a connection that is being closed
TURN: Final = 64  # frames of one connection that are dealt with before others may run
LOW: Final = 16 * 1024  # bytes in the write buffer below which a stuck transport has drained
UNSUPPORTED: Final = 1003
NOT_UTF8: Final = 1007
TOO_BIG: Final = 1009
ABNORMAL: Final = 1006


class _Protocol(ServerProtocol):
    """The library's protocol with our close code for a message that is too large."""

    def fail(self, code: int, reason: str = "") -> None:
        super().fail(codes.TOO_LARGE if code == TOO_BIG else code, reason)


def _is_utf8(data: bytes) -> bool:
    try:
        return data.isascii() or data.decode() is not None
    except UnicodeDecodeError:
        return False


def address_of(transport: asyncio.Transport) -> str | None:
    """Return the address that a connection comes from, None if it has none."""
    name = transport.get_extra_info("peername")
    return name[0] if isinstance(name, tuple) and name else None


def _refusal(over: Overload) -> Refusal:
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, f"{over.text}\n", over.retry_after)


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


class WebSocket(asyncio.Protocol):
    """One connection, from the TCP connection to its end. `transport` of the session's peer."""

    __slots__ = (
        "_caller", "_clock", "_close_by", "_entrance", "_fragments", "_hub", "_incoming", "_listing", "_open_by",
        "_paused", "_peer", "_ping_at", "_protocol", "_resting", "_seen", "_transport", "slot", "way",
    )  # fmt: skip

    kind = "ws"

    def __init__(self, hub: Hub, handshake: Handshake, listing: Listing) -> None:
        self._hub = hub
        self._listing = listing
        self._caller: Caller | None = None
        self._clock = hub.clock
        self._protocol: _Protocol | None = None  # see `_library`
        self._incoming = Incoming(MAX_FRAME)
        self._transport: asyncio.Transport
        self._entrance: Entrance | None = Entrance(partial(self._judge, handshake))
        self._resting: asyncio.TimerHandle | None = None  # nothing is read until then
        self._peer: Peer | None = None
        self._fragments: list[bytes] | None = None
        self._paused = False
        self._seen = self._clock()
        self._ping_at = float("inf")
        self._open_by = self._seen + OPENING
        self._close_by = float("inf")
        self.slot = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request."""
        outer = cast("asyncio.Transport", transport)
        self.enter(self._hub.admission.arrive(address_of(outer), self._clock()), outer)

    def enter(self, caller: Caller, transport: asyncio.Transport) -> None:
        """Wait for the request of a caller whose arrival has been noted."""
        self._caller, self._transport = caller, transport
        self.way = way_of(self._transport)
        self._transport.set_write_buffer_limits(high=SOFT, low=LOW)
        self._listing.listed(self)
        self._hub.wheel.schedule(self, self._open_by)
        if caller.shut_out and caller.over is not None:
            self._refuse(refused(_refusal(caller.over)))

    def data_received(self, data: bytes) -> None:
        """Take what the client sends. What that raises ends this connection and no other."""
        self._seen = now = self._clock()
        try:
            if self._entrance is not None:
                data = self._enter(self._entrance, data, now)
            if data:
                self._read(data, now)
        except Exception as exc:  # noqa: BLE001 - `_fail` logs it
            self._fail(exc, now)

    def eof_received(self) -> None:
        """Take note that the client sends no more; the connection closes."""
        if self._protocol is not None:
            self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """Forget the connection."""
        now = self._clock()
        self.way.shut()
        self._close_by = self._open_by = self._ping_at = float("inf")
        self._entrance = None
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
            except Exception as exc:  # noqa: BLE001 - `_fail` logs it
                self._fail(exc, self._clock())
        self._hub.wheel.schedule(self, self._clock() + LOOK_AGAIN)

    def resume_writing(self) -> None:
        """Less than LOW bytes wait."""
        self._paused = False
        # Not at once: this may be called from within a write.
        asyncio.get_running_loop().call_soon(self._drained)

    def _drained(self) -> None:
        if self._peer is not None and not self._paused:
            self._hub.buffered(self._peer, 0, self._clock())

    def _enter(self, entrance: Entrance, data: bytes, now: float) -> bytes:
        """Gather the head of the request and answer it; return what came after it, once it was let in."""
        entered = entrance.take(data)
        if entered is None:
            return b""
        self._entrance = None
        if self._caller is not None:
            self._caller.opened(now)
            self._caller = self._caller if self._caller.holds else None
        if entered.admission is None:
            self._refuse(entered)
            return b""
        if entered.answer:
            self.way.send(entered.answer)
        self._open_by = float("inf")
        self._ping_at = now + self._hub.config.heartbeat
        self._peer = self._hub.admit(self, entered.admission.claims, hello=entered.admission.hello, now=now)
        self._hub.wheel.schedule(self, self._due())
        return entered.rest

    def _judge(self, handshake: Handshake, target: str, headers: Mapping[str, Any]) -> Admission | Refusal:
        """Judge a request: first whether there is room for its client, last whether there is for its user."""
        caller, now = self._caller, self._clock()
        if caller is not None and (over := caller.ask(headers, now)) is not None:
            return _refusal(over)
        verdict = handshake.judge(target, headers)
        if isinstance(verdict, Admission) and caller is not None:
            over = caller.seat(verdict.claims.user, now)
            if over is not None:
                return _refusal(over)
        return verdict

    def _refuse(self, entered: Entered) -> None:
        """Say no and end the connection."""
        self._entrance = None
        if entered.answer:
            self.way.send(entered.answer)
        if entered.status:
            self._hub.metrics.refused.labels(entered.status).inc()
        self._transport.close()

    def _fail(self, exc: Exception, now: float) -> None:
        """End the connection in which an exception was raised."""
        if self._peer is not None:
            self._hub.fail(self._peer, exc, now)
            return
        log.error("a connection failed and is cut off", exc_info=exc)
        self._hub.metrics.failed.inc()
        self.abort()

    # What comes in

    def _read(self, data: bytes, now: float) -> None:
        """Deal with some frames of what came. What is more than a turn or than the user may say is left for later.

        So a client that says too much slows itself down, and neither the loop nor its own deliveries.
        """
        incoming, wait = self._incoming, 0.0
        frames = incoming.cut(data, TURN)
        if frames:
            self._take_frames(frames, now)
        if (peer := self._peer) is not None and (wait := peer.session.out.allowance.read(now, len(frames), len(data))):
            self._hub.limited("user_reads", peer.session.user)
        if peer is None and incoming.left:
            wait = PARTING  # it talks on and has not answered our close: there is no hurry
        if wait or incoming.left:
            self._transport.pause_reading()
            self._resting = self._hub.later(wait, self._read_on)

    def _read_on(self) -> None:
        self._resting, self._seen = None, self._clock()
        try:
            self._read(b"", self._seen)
        except Exception as exc:  # noqa: BLE001 - `_fail` logs it
            self._fail(exc, self._seen)
        if self._resting is None:  # what a client answers to a close is read, too
            self._transport.resume_reading()

    def _library(self) -> _Protocol:
        """Return the library's protocol of an open connection, which has none until it is needed."""
        if self._protocol is None:
            self._protocol = _Protocol(max_size=MAX_FRAME, logger=QUIET, state=State.OPEN)
        return self._protocol

    def _is_open(self) -> bool:
        return self._protocol is None or self._protocol.state is State.OPEN

    def _take_frames(self, frames: list[bytes], now: float) -> None:
        texts: list[bytes] = []  # that came one after the other
        for frame in frames:
            peer = self._peer
            if peer is not None and self._fragments is None and self._is_open():
                if (text := text_of(frame)) is not None and _is_utf8(text):
                    texts.append(text)
                    continue
                if is_pong(frame):
                    self._spend(peer, now)
                    continue
            if texts and peer is not None:
                self._hub.receive_all(peer, texts, now)
                texts = []
            if not self._is_open() and not is_close(frame):
                continue  # nothing else is waited for
            library = self._library()
            library.receive_data(frame)
            for event in library.events_received():
                self._take_event(cast("Frame", event), now)
            self._write_protocol(now)
        if texts and self._peer is not None:
            self._hub.receive_all(self._peer, texts, now)

    def _spend(self, peer: Peer, now: float) -> None:
        if not peer.session.spend(now):
            self._hub.flush(peer, now)

    def _take_event(self, frame: Frame, now: float) -> None:
        peer = self._peer
        if peer is None or not self._is_open():
            return
        match frame.opcode:
            case Opcode.TEXT | Opcode.CONT:
                self._take_text(peer, frame, now)
            case Opcode.BINARY:
                self._library().fail(UNSUPPORTED, "messages are text")
            case _:
                self._spend(peer, now)

    def _take_text(self, peer: Peer, frame: Frame, now: float) -> None:
        data = bytes(frame.data)
        if not frame.fin or self._fragments is not None:
            fragments = self._fragments = self._fragments or []
            fragments.append(data)
            if len(fragments) > MAX_FRAGMENTS:
                self._library().fail(codes.TOO_LARGE, "a message of too many fragments")
                return
            if not frame.fin:
                return
            data, self._fragments = b"".join(fragments), None
        self._take_whole(peer, data, now)

    def _take_whole(self, peer: Peer, data: bytes, now: float) -> None:
        if _is_utf8(data):
            self._hub.receive(peer, data, now)
        else:
            self._library().fail(NOT_UTF8, "a text message is UTF-8")
            self._write_protocol(now)

    # What goes out

    def send(self, frames: list[bytes]) -> int:
        """Write text messages at once and return how many bytes wait for the network."""
        library = self._protocol
        if library is not None and library.state is not State.OPEN:
            return 0
        self.way.send(joined(frames))
        return self._transport.get_write_buffer_size() if self._paused else 0

    def _write_protocol(self, now: float) -> None:
        """Write what the protocol itself has to say, and end the connection where it says so."""
        library = self._protocol
        chunks = [] if library is None else library.data_to_send()
        if library is None or not chunks:
            return
        data = b"".join(chunks)
        if data:
            self.way.send(data)
        if library.state is not State.OPEN and self._peer is not None:
            self._leave(self._close_code(), now)
        if SEND_EOF in chunks:
            self._transport.close()
        if library.close_expected() and self._close_by == float("inf"):
            self._close_by = now + CLOSING
            self._hub.wheel.schedule(self, self._close_by)

    def close(self, code: int, reason: str) -> None:
        """Say why, unlist the session, and wait a little for the client to answer."""
        if self._is_open():
            self._library().send_close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))
            self._write_protocol(self._clock())

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def _leave(self, code: int, now: float) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            self._hub.gone(peer, code, now)

    def _close_code(self) -> int:
        library = self._protocol
        close = (library.close_sent or library.close_rcvd) if library is not None else None
        return close.code if close is not None else ABNORMAL

    # The clock

    def visit(self, now: float) -> float:
        """Ping, end what is silent, and let the session do what is due. What that raises ends this connection only."""
        try:
            return self._visit(now)
        except Exception as exc:  # noqa: BLE001 - `_fail` logs it
            self._fail(exc, now)
            return self._due()

    def _visit(self, now: float) -> float:
        if now >= self._open_by or now >= self._close_by:
            self.abort()
            return float("inf")
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

    def _due(self) -> float:
        due = min(self._open_by, self._close_by)
        if self._peer is not None:
            due = min(due, self._ping_at, self._seen + self._hub.config.idle)
            if self._paused:
                due = min(due, self._clock() + LOOK_AGAIN)
        return due
