"""A WebSocket connection as frames: what a client says becomes messages, and what a session says goes out.

Our own reading and writing does what is usual, `websockets` Sans-I/O everything else. Frames out are built once and
written through the asyncio transport, several joined into one write. No extension is negotiated: compression would cost
three times the memory and twice the CPU.
"""

import asyncio
from abc import abstractmethod
from typing import Final, cast

from websockets.frames import Frame, Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from gateway import codes
from gateway.entrance import QUIET
from gateway.framing import joined
from gateway.hub import Hub
from gateway.incoming import Incoming, is_close, is_pong, text_of
from gateway.opening import Opening
from gateway.passing import Way
from gateway.peer import Peer
from schemas.frames import MAX_FRAME

CLOSING: Final = 5.0  # s that a client may take to answer a close
MAX_FRAGMENTS: Final = 64  # fragments of one message
MAX_REASON: Final = 123  # bytes of the reason of a close: more does not fit into its frame
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


class Connection:
    """One connection from its begin to its end: `_opening`, then `_peer`, then neither while it is being closed."""

    __slots__ = (
        "_clock", "_close_by", "_fragments", "_hub", "_incoming", "_opening", "_paused", "_peer", "_protocol",
        "_transport", "slot", "way",
    )  # fmt: skip

    kind = "ws"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._clock = hub.clock
        self._protocol: _Protocol | None = None  # see `_library`
        self._incoming = Incoming(MAX_FRAME)
        self._transport: asyncio.Transport
        self.way: Way
        self._opening: Opening | None = None
        self._peer: Peer | None = None
        self._fragments: list[bytes] | None = None
        self._paused = False  # the transport takes no more for now
        self._close_by = float("inf")
        self.slot = 0

    @abstractmethod
    def visit(self, now: float) -> float:
        """Do what is due by `now` and return when to come again."""

    # What comes in

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
        if not self._is_open():
            return
        if peer is None:
            if self._opening is not None and frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._opening.hear(bytes(frame.data) if frame.fin else b"")
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
        if library.state is not State.OPEN:
            self._end_opening()
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

    def _end_opening(self) -> None:
        if self._opening is not None:
            self._opening.proving = False  # a verdict that comes later is nobody's
            self._opening = None
