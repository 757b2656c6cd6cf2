"""A device as every client should be: it keeps a cursor a log, drops repeats, notices holes, acknowledges.

Sans-I/O: frames in, what to show and what to answer out. It knows no socket and no clock.
"""

import json
from typing import Any, Final, get_args

import msgspec

from schemas import frames
from schemas.frames import NotificationFrame

_TYPES: Final = frozenset(frame.__struct_config__.tag for frame in get_args(frames.ServerFrame))


class Cursors(msgspec.Struct, kw_only=True):
    """What a device has: the last seq of each log, valid for one epoch of the store."""

    user: str = ""
    device: str = ""
    epoch: str | None = None
    cursors: dict[str, int] = {}


class Step(msgspec.Struct):
    """What came of a frame: entries to show, a note for people, frames to answer, and when to come back (ms)."""

    show: list[NotificationFrame] = []
    note: str = ""
    answers: list[str] = []
    reconnect: int | None = None


class _Type(msgspec.Struct):
    type: str


_type = msgspec.json.Decoder(_Type)
_frame = msgspec.json.Decoder(frames.ServerFrame)


class Device:
    """One device of a user; give it the text frames of the server in the order in which they come."""

    def __init__(self, cursors: Cursors) -> None:
        self.state = cursors
        self.repeats = 0
        self._unacked: set[str] = set()
        self._asked: dict[str, int] = {}

    def hello(self, device: str | None) -> str:
        """Return the first frame of a connection."""
        self._asked.clear()
        frame: dict[str, Any] = {"type": "hello", "client": "tocsin-cli"}
        if device:
            frame["device"] = device
        if self.state.epoch is not None and self.state.cursors:
            frame |= {"epoch": self.state.epoch, "cursors": self.state.cursors}
        return json.dumps(frame)

    def acks(self) -> list[str]:
        """Return the acknowledgements that are due; what is not shown yet must not be acknowledged."""
        logs = sorted(self._unacked)
        self._unacked.clear()
        return [json.dumps({"type": "ack", "log": log, "seq": self.state.cursors[log]}) for log in logs]

    def receive(self, text: str | bytes) -> Step:
        """Take a frame. Types of a newer server are ignored; raises `msgspec.MsgspecError` for what is no frame."""
        data = text.encode() if isinstance(text, str) else text
        if _type.decode(data).type not in _TYPES:
            return Step()
        frame = _frame.decode(data)
        return self._entry(frame) if isinstance(frame, NotificationFrame) else self._control(frame)

    def _entry(self, entry: NotificationFrame) -> Step:
        cursor = self.state.cursors.get(entry.log)
        if cursor is not None and entry.seq <= cursor:
            self.repeats += 1
            return Step()
        if cursor is not None and entry.seq > cursor + 1:
            return self._hole(entry.log, cursor)
        self._advance(entry.log, entry.seq)
        return Step(show=[entry])

    def _hole(self, log: str, cursor: int) -> Step:
        if self._asked.get(log) == cursor:
            return Step()
        self._asked[log] = cursor
        return Step(
            note=f"a hole in {log} after {cursor}: asked for it",
            answers=[json.dumps({"type": "sync", "log": log, "after": cursor})],
        )

    def _control(self, frame: frames.ServerFrame) -> Step:
        step = Step()
        match frame:
            case frames.Welcome():
                step = self._welcome(frame)
            case frames.Skip():
                step = self._skip(frame)
            case frames.Gap():
                step = self._hole(frame.log, self.state.cursors.get(frame.log, frame.first - 1))
            case frames.TooLong():
                self._advance(frame.log, frame.head)
                step.note = f"too far behind in {frame.log}: goes on after {frame.head}"
            case frames.Reset():
                self._forget(frame.log)
                step.note = f"the cursor of {frame.log} is void: the server's store is another one"
            case frames.Reconnect():
                step = Step(note=f"the gateway asks to come back in {frame.after} ms", reconnect=frame.after)
            case frames.ErrorFrame():
                step.note = f"error {frame.code}: {frame.message}"
        return step

    def _welcome(self, frame: frames.Welcome) -> Step:
        self.state.epoch = frame.epoch
        heads = ", ".join(f"{log} {head}" for log, head in frame.heads.items())
        device = f"device {frame.device}" if frame.device else "no device"
        return Step(note=f"connected as {device} ({heads})")

    def _skip(self, frame: frames.Skip) -> Step:
        cursor = self.state.cursors.get(frame.log)
        if cursor is not None and frame.first > cursor + 1:
            return self._hole(frame.log, cursor)
        if cursor is None or frame.last > cursor:
            self._advance(frame.log, frame.last)
        return Step(note=f"{frame.log} {frame.first}-{frame.last}: nothing for this device ({frame.reason})")

    def _forget(self, log: str) -> None:
        self.state.cursors.pop(log, None)
        self._asked.pop(log, None)
        self._unacked.discard(log)

    def _advance(self, log: str, seq: int) -> None:
        self.state.cursors[log] = seq
        self._asked.pop(log, None)
        self._unacked.add(log)
