"""A device: a lean WebSocket client that checks what it receives.

It keeps what a good client keeps: its cursors, its store epoch. It acknowledges, comes back when it is cut off, and
notes every repeat and every hole that the server did not announce.
"""

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cli.tokens import make_token

if TYPE_CHECKING:
    from bench.swarm import Swarm

OPEN: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
BACK_OFF: Final = (0.05, 1.0)  # s; the first and the longest pause before coming back


class Seen(msgspec.Struct):
    """What a device looks at in a server's frame."""

    type: str
    log: str = ""
    seq: int = 0
    id: str = ""
    created_at: str = ""
    epoch: str = ""
    heads: dict[str, int] = {}
    head: int = 0
    session: str = ""
    reason: str = ""
    code: str = ""
    first: int = msgspec.field(name="from", default=0)
    to: int | None = 0  # null in `reconnect`

    @property
    def last(self) -> int:
        """The end of a range; 0 without one."""
        return self.to or 0


_decode = msgspec.json.Decoder(Seen).decode
_encode = msgspec.json.Encoder().encode


class Watcher:
    """Is told what devices see; this one does nothing with it."""

    def heard(self, device: "Device", frame: Seen, *, shown: bool) -> None:
        """Take a frame that a device understood; `shown`: it is an entry that the device had not shown before."""

    def lost(self, device: "Device", code: int) -> None:
        """Take the end of a connection; `code` is the close code, 0 without one."""

    def acked(self, device: "Device", log: str, seq: int) -> None:
        """Take an acknowledgement that a device sends."""


class Device(asyncio.Protocol):
    """One device of one user.

    A `late` one comes for the first time after others of its user: its logs may begin after what they acknowledged.
    """

    def __init__(self, swarm: "Swarm", user: str, name: str, *, late: bool = False) -> None:
        self.swarm = swarm
        self.user = user
        self.name = name
        self.late = late
        self.heard = time.monotonic()  # when the server last gave a sign of life
        self.cursors: dict[str, int] = {}
        self.epoch = ""
        self.ids: list[str] = []
        self.heads: dict[str, int] = {}
        self.welcomed = False
        self._acked: dict[str, int] = {}
        self._transport: Any = None
        self._buffer = bytearray()
        self._upgraded = False
        self._wanted = True
        self._failures = 0
        self._code = 0

    # -- the connection ------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect, or come back later if that fails."""
        self._buffer, self._upgraded = bytearray(), False
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self.swarm.address)
        except OSError:
            self._come_back()

    def leave(self) -> None:
        """Go away and stay away."""
        self._wanted = False
        if self._transport:
            self._transport.close()

    def cut(self) -> None:
        """Lose the connection, as a phone in a tunnel does; the device comes back by itself."""
        if self._transport:
            self._transport.abort()

    def stop_reading(self) -> None:
        """Take nothing from the network any more, as an application that hangs does."""
        if self._transport:
            self._transport.pause_reading()

    def go_on_reading(self) -> None:
        """Read again; nothing happens if the connection is gone."""
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    def cut_if_silent(self, seconds: float) -> None:
        """Lose a connection that has said nothing, not even a ping, for so long; the device comes back by itself."""
        if self._transport and time.monotonic() - self.heard > seconds:
            self._transport.abort()

    def _come_back(self) -> None:
        if self._wanted:
            first, longest = BACK_OFF
            pause = min(longest, first * 2**self._failures) * random.uniform(0.5, 1.5)
            self._failures += 1
            loop = asyncio.get_running_loop()
            loop.call_later(pause, lambda: self.swarm.spawn(self.connect()))

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self._transport, self._code, self.heard = transport, 0, time.monotonic()
        token = make_token(self.swarm.secret, self.user, device=self.name, ttl=600)
        transport.write(
            f"GET /ws?hello=1&token={token} HTTP/1.1\r\nHost: {self.swarm.address[0]}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Come back, if that is wanted."""
        self._transport, self.welcomed = None, False
        self.swarm.watcher.lost(self, self._code)
        if self._wanted:
            self.swarm.reconnects += 1
            self._come_back()

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole."""
        self.heard = time.monotonic()
        buffer = self._buffer
        buffer += data
        if not self._upgraded and not self._upgrade():
            return
        position = 0
        while (found := _frame_at(buffer, position)) is not None:
            opcode, start, end = found
            self._on_frame(opcode, bytes(buffer[start:end]))
            position = end
        del buffer[:position]

    def _upgrade(self) -> bool:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            self._transport.close()
            return False
        self._buffer[:] = rest
        self._upgraded = True
        hello: dict[str, Any] = {"type": "hello"}
        if self.epoch:
            hello |= {"epoch": self.epoch, "cursors": self.cursors}
        self.say(hello)
        return True

    def say(self, frame: dict[str, Any]) -> None:
        """Send a frame."""
        self._write(OPEN, _encode(frame))

    def _write(self, opcode: int, payload: bytes) -> None:
        if self._transport is None:
            return
        length = len(payload)
        head = bytes((0x80 | opcode, 0x80 | length)) if length < 126 else _long_head(opcode, length)
        self._transport.write(head + b"\0\0\0\0" + payload)  # a mask of zeros leaves the payload as it is

    # -- what the server says ------------------------------------------------------------------------------------------

    def _on_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == OPEN:
            self._on_text(_decode(payload))
        elif opcode == PING:
            self._write(PONG, payload)
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self._code = code
            self.swarm.closes[code] = self.swarm.closes.get(code, 0) + 1
            self._transport.close()

    def _on_text(self, frame: Seen) -> None:
        shown = frame.type == "notification" and self._entry(frame)
        self.swarm.watcher.heard(self, frame, shown=shown)
        match frame.type:
            case "skip":
                self._advance(frame.log, frame.first, frame.last)
            case "gap":
                self.say({"type": "sync", "log": frame.log, "after": self.cursors.get(frame.log, 0)})
            case "welcome":
                self._failures, self.welcomed = 0, True
                self.epoch, self.heads = frame.epoch, frame.heads
                self.swarm.welcomes += 1
            case "reset" | "too_long":
                self.swarm.resets += 1
                self.cursors[frame.log] = frame.head
            case "error":
                self.swarm.fault(self, f"error frame {frame}")

    def _entry(self, frame: Seen) -> bool:
        if not self._advance(frame.log, frame.seq, frame.seq):
            return False
        self.ids.append(frame.id)
        self.swarm.received += 1
        self.swarm.on_entry(self, frame)
        return True

    def _advance(self, log: str, first: int, last: int) -> bool:
        cursor = self.cursors.get(log, 0)
        if last <= cursor:
            self.swarm.fault(self, f"{log}: {first}..{last} again, at {cursor}")
            return False
        if first > cursor + 1 and not (self.late and log not in self.cursors):
            self.swarm.fault(self, f"{log}: {first} after {cursor}, unannounced")
        self.cursors[log] = last
        self.swarm.unacked.add(self)
        return True

    def acknowledge(self) -> None:
        """Acknowledge what came since the last time; before `welcome` the server takes no acknowledgement."""
        if not self.welcomed:
            self.swarm.unacked.add(self)
            return
        for log, seq in self.cursors.items():
            if seq > self._acked.get(log, 0):
                self._acked[log] = seq
                self.swarm.watcher.acked(self, log, seq)
                self.say({"type": "ack", "log": log, "seq": seq})


def _frame_at(buffer: bytearray, position: int) -> tuple[int, int, int] | None:
    """Return (opcode, start, end) of the payload of the frame at a position; None if it is not whole."""
    if len(buffer) < position + 2:
        return None
    opcode, length, start = buffer[position] & 0x0F, buffer[position + 1] & 0x7F, position + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(buffer) < start + size:
            return None
        length, start = int.from_bytes(buffer[start : start + size], "big"), start + size
    end = start + length
    return (opcode, start, end) if len(buffer) >= end else None


def _long_head(opcode: int, length: int) -> bytes:
    if length < 1 << 16:
        return bytes((0x80 | opcode, 0xFE)) + length.to_bytes(2, "big")
    return bytes((0x80 | opcode, 0xFF)) + length.to_bytes(8, "big")
