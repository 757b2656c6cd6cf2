"""What clients say: frames, whole sessions of them with the world talking in between, and the bytes of a connection."""

import contextlib
import json
import random
import zlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from prometheus_client import CollectorRegistry
from websockets.frames import Frame, Opcode

from gateway.allowance import Quotas
from gateway.auth import Claims
from gateway.config import GatewayConfig
from gateway.handshake import Handshake
from gateway.hub import Hub
from gateway.origins import Origins
from gateway.passing import Way
from gateway.peer import Peer
from gateway.proving import Prover
from gateway.websocket import WebSocket
from schemas import bus
from schemas.bus import Answer, Heard, LogOpening, Opening, Packed, Part, Run
from schemas.errors import BadFrame
from schemas.frames import ErrorFrame, decode_client_frame
from schemas.frames import encode as encode_frame
from schemas.logs import INBOX_LOGS
from schemas.records import MAX_SEQ
from telemetry.gateway import GatewayMetrics
from tests.fuzz.inputs import grown_object
from tests.fuzz.producers import acks, connection
from tests.fuzz.target import PARTITIONS, SECRET, Target
from tests.fuzz.tokens import TOKEN, VERIFIER, Open

FRAMES: Final = (
    b'{"type":"hello","device":"phone","epoch":"e","cursors":{"inbox/normal":17},"client":"app/1"}',
    b'{"type":"ack","log":"inbox/normal","seq":2}',
    b'{"type":"read","log":"inbox/normal","seq":1,"id":5}',
    b'{"type":"sync","log":"inbox/normal","after":1,"limit":100,"id":"s1"}',
    b'{"type":"refresh","token":"' + TOKEN + b'"}',
    b'{"type":"ping"}',
)


def frame(data: bytes) -> None:
    """A message of a client; what is wrong with it has to fit into an `error`."""
    try:
        decode_client_frame(data)
    except BadFrame as exc:
        encode_frame(ErrorFrame(code=exc.code, message=str(exc), ref=exc.ref))
        raise


def _grown_frame(rng: random.Random) -> bytes:
    fields = ("id", "client_id", "device", "epoch", "cursors", "client", "log", "seq", "after", "limit", "token")
    return grown_object(rng, ("hello", "ack", "read", "sync", "refresh", "ping"), fields)


class _Transport:
    """A TCP connection that takes everything; `slot` and `visit` are the wheel's."""

    kind = "ws"

    def __init__(self) -> None:
        self.slot = 0
        self.closed = False
        self.way = Way(self.write, self.get_write_buffer_size, -1)

    def send(self, frames: list[bytes]) -> int:
        for sent in frames:
            assert isinstance(json.loads(sent), dict)
        return 0

    def write(self, data: bytes) -> None:
        assert data

    def close(self, code: int = 0, reason: str = "") -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Go on being read from: nothing comes by itself."""

    def resume_reading(self) -> None:
        """Go on."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        """Return nothing: there is no socket."""

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert high > low

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Do nothing: nobody reads."""

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return True

    def visit(self, now: float) -> float:
        return now + 1


class Unlisted:
    """Nobody keeps a list of connections."""

    def listed(self, socket: WebSocket) -> None:
        """Take no note."""

    def unlisted(self, socket: WebSocket) -> None:
        """Take no note."""


class _Hub(Hub):
    """A hub that hides no fault of ours behind the session in which it shows."""

    def fail(self, peer: Peer, exc: Exception, now: float) -> None:
        raise exc

    def _dropped(self, session: str | None, exc: Exception) -> None:
        raise exc


class _Socket(WebSocket):
    """The same for a connection."""

    def fail(self, exc: Exception) -> None:
        raise exc


class _Gateway:
    """The hub of a gateway, without anything around it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        config = GatewayConfig(id="g", kafka={}, redis="", secret=SECRET, quotas=Quotas(connections=None))
        metrics = GatewayMetrics(CollectorRegistry())
        self.hub = _Hub(config, PARTITIONS, metrics, lambda: self.now, lambda: None, self.later)
        self.hub.prover = Prover(VERIFIER)
        self.waiting: list[tuple[float, Callable[[], None]]] = []
        self.handshake = Handshake(Origins(""), Open())
        self.number = 0

    def later(self, wait: float, call: Callable[[], None]) -> Any:
        """Take note of what is to be called, as a loop would."""
        self.waiting.append((self.now + wait, call))
        return SimpleNamespace(cancel=self.waiting.clear)

    def catch_up(self) -> None:
        """Let the time come of all that waits for it."""
        while self.waiting:
            due, call = self.waiting.pop(0)
            self.now = max(self.now, due)
            call()

    def hear(self, part: Part) -> None:
        """Take a message of the bus."""
        self.number += 1
        said = bus.decode(bus.encode(Packed(stream="w", number=self.number, parts=[part])))
        assert isinstance(said, Heard)
        taking = self.hub.dispatch.take(said)
        with contextlib.suppress(StopIteration):
            while True:  # its pauses are for others, and there are none
                taking.send(None)

    def settle(self) -> None:
        """Write what waits, as it is written to Kafka, and read it as a worker does."""
        for partition in range(PARTITIONS):
            for _, record in self.hub.outbox.take(partition, acks=False):
                connection(record)
            for _, record in self.hub.outbox.take(partition, acks=True):
                acks(record)


_gateway: list[_Gateway] = []


def _a_gateway() -> _Gateway:
    if not _gateway or _gateway[0].number > 5_000:  # now and then a new one, so that what piles up does not slow us
        _gateway[:] = [_Gateway()]
    return _gateway[0]


def session(data: bytes) -> None:
    """Lines that a client says one after another, with the bus, the clock and the network talking in between."""
    gateway, rng = _a_gateway(), random.Random(zlib.crc32(data))
    hub, hello = gateway.hub, data.startswith(FRAMES[0][:14])
    transport = _Transport()
    peer = hub.admit(transport, Claims("u1", rng.choice((None, "phone")), 600.0), hello=hello, now=gateway.now)
    said = [partial(hub.receive, peer, line, gateway.now) for line in data.split(b"\n")]
    for saying in said:
        gateway.now += rng.choice((0.0, 0.01, 1.0))
        _world(gateway, peer.session.id, rng)
        saying()
        hub.tick(peer, gateway.now)
        hub.buffered(peer, rng.choice((0, 0, 70_000, 300_000)), gateway.now)
    hub.gone(peer, 1000, gateway.now)
    gateway.settle()


def _world(gateway: _Gateway, name: str, rng: random.Random) -> None:
    log = rng.choice(INBOX_LOGS)
    first = rng.choice((1, 1, 2, 3, 900, MAX_SEQ - 3))
    runs = [Run(log, first, first, 1, b'{"type":"notification"}'), Run(log, first + 1, first + 3, reason="expired")]
    match rng.randrange(6):
        case 0 | 1:
            logs = [LogOpening(each, 0, rng.choice((0, 3, MAX_SEQ)), 0) for each in INBOX_LOGS]
            gateway.hear(Part(0, 1, openings=[Opening(name, rng.choice("ef"), logs)]))
        case 2:
            gateway.hear(Part(0, 1, deliveries=[bus.Delivery("u1", [name], runs)]))
        case 3:
            said = Answer(name, log, rng.choice((0, 1, 2, 900)), rng.choice((0, 3, 1_000)), runs, asked=True)
            gateway.hear(Part(0, 1, answers=[said]))
        case _:
            gateway.hub.dispatch.suspect_all(gateway.now)


def _grown_session(rng: random.Random) -> bytes:
    lines = [_grown_frame(rng) if rng.random() < 0.5 else rng.choice(FRAMES) for _ in range(rng.randrange(1, 12))]
    return b"\n".join(lines)


SESSIONS: Final = (b"\n".join(FRAMES), b"\n".join(FRAMES[1:]), b"\n".join((FRAMES[0], FRAMES[3], FRAMES[3], FRAMES[1])))


def socket(data: bytes) -> None:
    """The bytes of a TCP connection, in pieces of any size."""
    gateway, rng = _a_gateway(), random.Random(zlib.crc32(data))
    gateway.number += 1
    one = _Socket(gateway.hub, gateway.handshake, Unlisted())
    transport: Any = _Transport()
    one.connection_made(transport)
    at = 0
    while at < len(data) and not transport.closed:
        piece = data[at : at + rng.choice((1, 7, 100, 100_000))]
        one.data_received(piece)
        gateway.catch_up()
        at += len(piece)
        gateway.now += 0.01
    one.visit(gateway.now)
    if rng.random() < 0.5:
        one.eof_received()
    one.connection_lost(None)
    gateway.settle()


def _masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


HEAD: Final = (
    b"GET /ws?token=" + TOKEN + b" HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SOCKETS: Final = (
    HEAD + b"".join(_masked(Opcode.TEXT, said) for said in FRAMES),
    HEAD + _masked(Opcode.PING, b"p") + _masked(Opcode.CLOSE, b"\x03\xe8bye"),
    HEAD + _masked(Opcode.TEXT, b'{"type"', fin=False) + _masked(Opcode.CONT, b':"ping"}'),
    HEAD + _masked(Opcode.TEXT, FRAMES[5]) + _masked(Opcode.BINARY, b"x"),
    HEAD.replace(b"/ws?", b"/ws?hello=1&") + _masked(Opcode.TEXT, FRAMES[0]) + _masked(Opcode.TEXT, b"\xff"),
    HEAD.replace(TOKEN, b"").replace(b"/ws?", b"/ws?hello=1&")
    + _masked(Opcode.TEXT, b'{"type":"hello","token":"' + TOKEN + b'"}')
    + _masked(Opcode.TEXT, FRAMES[5]),
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
)


TARGETS: Final = (
    Target("frame", frame, FRAMES, (BadFrame,), _grown_frame, 6),
    Target("session", session, SESSIONS, (), _grown_session, 3),
    Target("socket", socket, SOCKETS, (), None, 3),
)
