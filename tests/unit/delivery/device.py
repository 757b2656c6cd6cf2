"""A device by the book, and the gateway's end of its connection."""

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from gateway import codes
from gateway.hub import Hub
from gateway.passing import Way
from gateway.peer import Peer
from schemas.logs import INBOX_LOGS
from tests.unit.gateway.wire import unframed

if TYPE_CHECKING:
    from collections.abc import Mapping


class Device:
    """Shows entries once, drops what it has, and fails on a hole that nobody announced."""

    def __init__(self, user: str, name: str, acked: "Mapping[tuple[str, str], int]") -> None:
        self.user, self.name = user, name
        self.wire: Wire | None = None
        self.cursor: dict[str, int] = {}
        self.base: dict[str, int] = {}  # where it began without a cursor of its own
        self.shown: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)  # by log: seq, title
        self.skipped: defaultdict[str, dict[int, str]] = defaultdict(dict)  # by log: {seq: reason}
        self.passed: defaultdict[str, set[int]] = defaultdict(set)  # by log: seqs that were too many to be sent
        self.gap: dict[str, int] = {}  # a page that ended: the rest has to be synced
        self._restarts: dict[str, int] = {}  # where its own sync let the log begin anew
        self.place: dict[str, int] = {}  # last seq that went over this connection
        self._acked = acked  # what any device of the user has acknowledged, by user and log
        self.welcomed = False

    def forget(self) -> None:
        """Be a new device under the same name."""
        for memory in (self.cursor, self.base, self.shown, self.skipped, self.passed):
            memory.clear()

    def start(self, wire: "Wire") -> None:
        self.wire, self.welcomed = wire, False
        self.gap.clear()
        self._restarts.clear()
        self.place = dict(self.cursor)

    def hello(self) -> bytes:
        return json.dumps({"type": "hello", "device": self.name, "epoch": "epoch", "cursors": self.cursor}).encode()

    def synced_from(self, log: str, after: int) -> None:
        """Note that its own sync lets the log begin anew after `after`."""
        self.gap.pop(log, None)
        self._restarts[log] = after + 1

    def receive(self, data: bytes) -> None:
        frame = json.loads(data)
        kind, log = frame["type"], frame.get("log")
        if kind == "welcome":
            assert not self.welcomed
            self.welcomed = True
        elif kind == "notification":
            self._entry(log, frame["seq"], frame["seq"], frame["title"][:8], "")
        elif kind == "skip":
            self._entry(log, frame["from"], frame["to"], "", frame["reason"])
        elif kind == "too_long":
            self.passed[log].update(range(self.cursor.get(log, 0) + 1, frame["head"] + 1))
            self.cursor[log] = self.place[log] = frame["head"]
        elif kind == "gap":
            assert frame["from"] in (self.place[log] + 1, self._restarts.get(log))
            self.gap[log] = frame["to"]
        elif kind == "synced":
            assert frame["head"] in (self.place[log], self._restarts.pop(log, 0) - 1)
            self.place[log] = frame["head"]
        else:
            raise AssertionError(f"{self.user}/{self.name}: {frame}")

    def _entry(self, log: str, first: int, last: int, title: str, reason: str) -> None:
        if log not in self.place:  # a log that this device never saw: it is told where to begin
            assert first - 1 <= self._acked[self.user, log], f"{log} begins at {first}: earlier ones were never shown"
            self.base[log] = self.cursor[log] = self.place[log] = first - 1
        restart = self._restarts.pop(log, None)
        assert first in (self.place[log] + 1, restart), f"{log}: {first} after {self.place[log]}, nobody said why"
        assert log not in self.gap, "a parked log sends nothing"
        self.place[log] = last
        if last > self.cursor[log]:
            if title:
                self.shown[log].append((first, title))
            else:
                self.skipped[log].update(dict.fromkeys(range(max(first, self.cursor[log] + 1), last + 1), reason))
            self.cursor[log] = last


class Wire:
    """A connection: bytes that the client has not read yet wait in it."""

    kind = "ws"

    def __init__(self, device: Device, hub: Hub) -> None:
        self.slot = 0
        self.device = device
        self.hub = hub
        self.peer: Peer | None = None
        self.slow = False
        self._waiting: list[bytes] = []
        self.way = Way(self.write, lambda: 0, -1)

    def send(self, frames: list[bytes]) -> int:
        if not self.slow:
            for frame in frames:
                self.device.receive(frame)
            return 0
        self._waiting += frames
        return sum(map(len, self._waiting))

    def write(self, data: bytes) -> None:
        if waiting := self.send([unframed(data)]):
            assert self.peer is not None
            self.peer.session.choke(waiting)

    def close(self, code: int, _reason: str) -> None:
        assert codes.reconnects(code), code
        self.lost(code)

    def abort(self) -> None:
        raise AssertionError("no session of the model fails")

    def lost(self, code: int = 1006) -> None:
        """The connection is gone, with what was in it."""
        if self.device.wire is self:
            self.device.wire = None
        if self.peer is not None:
            self.hub.gone(self.peer, code, self.hub.clock())

    def visit(self, now: float) -> float:
        assert self.peer is not None
        return self.hub.tick(self.peer, now)

    def read_on(self) -> None:
        """The client reads everything that waits."""
        assert self.peer is not None
        self.slow = False
        waiting, self._waiting = self._waiting, []
        for frame in waiting:
            self.device.receive(frame)
        if waiting:
            self.hub.buffered(self.peer, 0, self.hub.clock())

    def say(self, **frame: object) -> None:
        assert self.peer is not None
        self.hub.receive(self.peer, json.dumps(frame).encode(), self.hub.clock())


__all__ = ["INBOX_LOGS", "Device", "Wire"]
