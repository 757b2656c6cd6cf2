"""Frames in: cuts what a client sends into whole frames, and reads those that clients mostly send. Sans-I/O.

Nearly all of it is short text messages and pongs. To read these here costs a fraction of what the library takes, which
gets everything else: long and fragmented messages, control frames that want an answer, and whatever is wrong. Since it
is only ever given whole frames it has nothing to remember between them, so an idle connection need not keep it.
"""

from typing import Final

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask  # in C, where the library has it
except ImportError:  # pragma: no cover
    from websockets.utils import apply_mask

MOST: Final = 1 << 30  # frames of a cut: all there are
SHORT: Final = 126  # bytes of a payload from which on the head has a longer length
_FINAL_TEXT: Final = 0x80 | Opcode.TEXT
_FINAL_PONG: Final = 0x80 | Opcode.PONG
_MASKED: Final = 0x80
_HEAD: Final = 6  # bytes before the payload of a short masked frame


class Incoming:
    """Cuts the bytes of one connection into frames."""

    __slots__ = ("_limit", "_rest", "left")

    def __init__(self, limit: int) -> None:
        """`limit` is how many bytes a payload may have; what claims to be longer is not waited for."""
        self._limit = limit
        self._rest = b""
        self.left = 0  # where in `_rest` frames begin that the last cut has left for the next one; 0: it has left none

    def cut(self, data: bytes, most: int = MOST) -> list[bytes]:
        """Return the frames that are whole now, at most so many; the last may be the begin of one that is too long."""
        at = self.left
        if self._rest:
            data, at = (self._rest[at:] + data, 0) if data else (self._rest, at)
        elif data and len(data) == _end(data, 0):  # one frame, as mostly
            return [data]
        frames: list[bytes] = []
        while at < len(data) and (end := _end(data, at)):
            if end > len(data):
                if end - at > self._limit + 14:
                    frames.append(data[at:])
                    at = len(data)
                break
            if len(frames) >= most:
                self._rest, self.left = data, at
                return frames
            frames.append(data[at:end])
            at = end
        self._rest, self.left = data[at:], 0
        return frames

    def keep(self, data: bytes) -> None:
        """Take what comes, to be cut later."""
        self._rest, self.left = self._rest[self.left :] + data, 0


def _end(data: bytes, at: int) -> int:
    """Return where the frame that begins at `at` ends; 0: its head is not whole."""
    have = len(data) - at
    if have < 2:
        return 0
    length, head = data[at + 1] & 0x7F, 2
    if length >= SHORT:
        head = 4 if length == SHORT else 10
        if have < head:
            return 0
        length = int.from_bytes(data[at + 2 : at + head], "big")
    if data[at + 1] & _MASKED:
        head += 4
    return at + head + length


def text_of(frame: bytes) -> bytes | None:
    """Return the text of a whole frame if it is a short, final and masked text message, else None."""
    if frame[0] != _FINAL_TEXT or not _MASKED <= frame[1] < _MASKED + SHORT:
        return None
    mask = frame[2:_HEAD]
    return frame[_HEAD:] if mask == b"\0\0\0\0" else apply_mask(frame[_HEAD:], mask)


def is_close(frame: bytes) -> bool:
    """Tell whether a whole frame ends the connection."""
    return frame[0] & 0x0F == Opcode.CLOSE


def is_pong(frame: bytes) -> bool:
    """Tell whether a whole frame is a pong as a client may send it."""
    return frame[0] == _FINAL_PONG and _MASKED <= frame[1] < _MASKED + SHORT
