"""Whatever the bus, the worker, the network and the client do: each device gets every entry once, in order.

A model log stands behind one device. Messages to the session may come late, twice, in another order or not at all; a
message that was lost is noticed (by its number), so the session is told to suspect everything some time later.
"""

import json
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.bucket import Limits
from gateway.effects import Acknowledge, AskSync, CloseWith, Connect
from gateway.passing import Way
from gateway.session import Identity, Session
from schemas.bus import GAP, Answer, LogOpening, Opening, Run
from tests.unit.gateway.wire import passes_on, unframed

LOGS = ("inbox/normal", "inbox/bulk")
SIZE = 20_000  # bytes an entry: a few of them fill the way out
WINDOW = 3
PAGE = 5  # entries that one answer brings at most


@dataclass
class Device:
    """A client by the book: it drops what it has, and fails on a hole that nobody announced."""

    cursor: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOGS, 0))
    shown: dict[str, list[int]] = field(default_factory=lambda: {log: [] for log in LOGS})
    gap: dict[str, int] = field(default_factory=dict)  # last seq of a gap that it has not synced yet
    restarts: dict[str, int] = field(default_factory=dict)  # where its own sync let the log begin anew
    place: dict[str, int] = field(default_factory=dict)  # last seq that went over this connection

    def receive(self, frame: dict[str, object]) -> None:
        kind, log = frame["type"], str(frame.get("log"))
        if kind == "welcome":
            return
        if kind in ("notification", "skip"):
            first, last = (frame["seq"], frame["seq"]) if kind == "notification" else (frame["from"], frame["to"])
            assert isinstance(first, int)
            assert isinstance(last, int)
            place = self.place[log]
            restart = self.restarts.pop(log, None)
            assert first in (place + 1, restart), f"{log}: {first} after {place}, and nobody said why"
            assert log not in self.gap, "a parked log sends nothing"
            self.place[log] = last
            if kind == "notification" and first > self.cursor[log]:
                self.shown[log].append(first)
            self.cursor[log] = max(self.cursor[log], last)
        elif kind == "gap":
            assert frame["from"] == self.place[log] + 1 or frame["from"] == self.restarts.get(log)
            assert isinstance(frame["to"], int)
            self.gap[log] = frame["to"]
        elif kind == "synced":
            assert isinstance(frame["head"], int)
            assert frame["head"] in (self.place[log], self.restarts.get(log, 0) - 1)
        else:
            raise AssertionError(frame)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.entries: dict[str, list[bool]] = {log: [] for log in LOGS}  # True: an entry, False: a skip
        self.device = Device()
        self.session: Session | None = None
        self.numbered = 0
        self.registered = False  # the worker knows the session
        self.bus: list[Opening | list[Run] | Answer] = []  # on the way to the session
        self.records: list[Connect | AskSync] = []  # on the way to the worker
        self.lost = False
        self.slow = False
        self.stuck = 0  # bytes that the transport holds
        self.acked: dict[str, int] = dict.fromkeys(LOGS, 0)

    # The world

    def runs(self, log: str, first: int, last: int) -> list[Run]:
        found = []
        for seq in range(first, last + 1):
            if self.entries[log][seq - 1]:
                frame = json.dumps({"type": "notification", "log": log, "seq": seq, "pad": "x" * SIZE}).encode()
                found.append(Run(log, seq, seq, 1, frame))
            elif found and found[-1].reason:
                found[-1] = Run(log, found[-1].first, seq, reason="expired")
            else:
                found.append(Run(log, seq, seq, reason="expired"))
        return found

    def flush(self) -> None:
        session = self.session
        assert session is not None
        out = session.out
        for _ in range(1000):
            if not out.frames and not out.effects:
                session.clear(Way(self.write, lambda: 0, -1))
                return
            frames, out.frames = out.frames, []
            self.send(frames)
            effects, out.effects = out.effects, []
            for effect in effects:
                assert not isinstance(effect, CloseWith), effect
                if isinstance(effect, Acknowledge):
                    self.acked[effect.log] = max(self.acked[effect.log], effect.delivered)
                elif isinstance(effect, Connect | AskSync):
                    self.records.append(effect)
        raise AssertionError("the session never comes to rest")

    def write(self, data: bytes) -> None:
        """The transport takes what passed; a slow one says at once that it is full."""
        assert self.session is not None
        self.device.receive(json.loads(unframed(data)))
        if self.slow:
            self.stuck += len(data)
            self.session.choke(self.stuck)

    def send(self, frames: list[bytes]) -> None:
        """The transport takes frames: the device has them, and a slow one keeps them waiting."""
        assert self.session is not None
        for frame in frames:
            self.device.receive(json.loads(frame))
            if self.slow:
                self.stuck += len(frame)
        if frames:
            self.session.buffered(self.stuck, self.now)

    @initialize()
    def begin(self) -> None:
        self.connect()

    @rule(chance=st.integers(0, 4))
    def reconnect(self, chance: int) -> None:
        if chance == 0:
            self.connect()

    def connect(self) -> None:
        """The device connects, or loses its connection and connects again with its cursors."""
        self.numbered += 1
        self.registered, self.lost, self.slow, self.stuck = False, False, False, 0
        self.bus.clear()
        self.records.clear()
        self.device.gap.clear()
        self.device.restarts.clear()
        identity = Identity(f"s{self.numbered}", "g", "u")
        pace = Limits(rate=1.0, burst=4.0)
        self.session = Session(identity, ttl=1e9, heartbeat=25, now=self.now, hello=True, pace=pace)
        hello = {"type": "hello", "epoch": "e", "cursors": self.device.cursor}
        self.device.place = dict(self.device.cursor)
        self.session.receive(json.dumps(hello).encode(), self.now)
        self.flush()

    @rule(log=st.sampled_from(LOGS), entry=st.sampled_from([True, True, True, False]), count=st.integers(1, 6))
    def append(self, log: str, entry: bool, count: int) -> None:
        first = len(self.entries[log]) + 1
        self.entries[log] += [entry] * count
        if self.registered:
            self.bus.append(self.runs(log, first, first + count - 1))

    @precondition(lambda self: self.records)
    @rule(repeat=st.booleans())
    def work(self, repeat: bool) -> None:
        """The worker takes the next record; a crash may make it take the record again later."""
        record = self.records[0] if repeat else self.records.pop(0)
        assert self.session is not None
        if isinstance(record, Connect):
            self.registered = True
            cursors = record.cursors or {}
            logs = [LogOpening(log, cursors[log], len(self.entries[log]), 0) for log in LOGS]
            self.bus.append(Opening(self.session.id, "e", logs))
            for log in LOGS:
                head = len(self.entries[log])
                last = min(head, cursors[log] + WINDOW)
                runs = self.runs(log, cursors[log] + 1, last)
                if last < head:
                    runs.append(Run(log, last + 1, head, reason=GAP))
                if runs:
                    self.bus.append(runs)
        else:
            head = len(self.entries[record.log])
            last = min(head, record.after + min(record.limit, PAGE))
            runs = self.runs(record.log, record.after + 1, last)
            self.bus.append(Answer(self.session.id, record.log, record.after, head, runs, record.asked))

    @precondition(lambda self: self.bus)
    @rule(data=st.data(), repeat=st.booleans())
    def arrive(self, data: st.DataObject, repeat: bool) -> None:
        """A message arrives, not always the oldest, and not always once."""
        at = data.draw(st.integers(0, min(2, len(self.bus) - 1)))
        message = self.bus[at] if repeat else self.bus.pop(at)
        self.hand(message)

    def hand(self, message: Opening | list[Run] | Answer) -> None:
        assert self.session is not None
        if isinstance(message, Opening):
            self.session.open(message, self.now)
        elif isinstance(message, Answer):
            self.session.answer(message, self.now)
        elif not self.pass_alone(message):
            self.session.deliver(message, self.now)
        self.flush()

    def pass_alone(self, message: list[Run]) -> bool:
        """Do what a gateway does with an entry that comes alone."""
        assert self.session is not None
        run, reading = message[0], self.session.readings.get(message[0].log)
        if len(message) > 1 or run.frame is None or reading is None:
            return False
        return passes_on(run, reading)

    @precondition(lambda self: self.bus)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.bus.pop(data.draw(st.integers(0, len(self.bus) - 1)))
        self.lost = True

    @precondition(lambda self: self.lost)
    @rule()
    def notice(self) -> None:
        """The number of what came next, or a beat, shows that something was lost."""
        assert self.session is not None
        self.lost = False
        self.session.suspect(self.now)
        self.flush()

    @rule(seconds=st.floats(0.1, 9))
    def wait(self, seconds: float) -> None:
        assert self.session is not None
        self.now += seconds if not self.slow else min(seconds, 0.1)
        self.session.tick(self.now)
        self.flush()

    @rule()
    def flow(self) -> None:
        """Nothing more goes wrong for a moment: then the device has everything, or was told of a gap up to the end."""
        assert self.session is not None
        if self.lost:
            self.notice()
        while self.records or self.bus:
            while self.records:
                self.work(repeat=False)
            while self.bus:
                self.hand(self.bus.pop(0))
        if self.session.opened and not self.slow:  # an opening that was lost is asked for again in time
            for log in LOGS:
                head = len(self.entries[log])
                assert self.device.gap.get(log, self.device.cursor[log]) == head or self.asked_lately(log)

    def asked_lately(self, log: str) -> bool:
        """Tell whether an ask is out whose answer was lost before; it is said again in time."""
        assert self.session is not None
        return self.session.readings[log].due(self.session.out) < float("inf")

    @rule()
    def slow_down(self) -> None:
        self.slow = True

    @precondition(lambda self: self.slow)
    @rule()
    def read_on(self) -> None:
        assert self.session is not None
        self.slow, self.stuck = False, 0
        self.session.buffered(0, self.now)
        self.flush()

    @precondition(lambda self: self.session is not None and self.session.opened)
    @rule(log=st.sampled_from(LOGS), back=st.integers(0, 4), limit=st.integers(1, 8))
    def sync(self, log: str, back: int, limit: int) -> None:
        self.ask_page(log, max(0, self.device.cursor[log] - back), limit)

    def ask_page(self, log: str, after: int, limit: int) -> None:
        assert self.session is not None
        self.now += 1  # within the client's rate
        self.device.gap.pop(log, None)
        self.device.restarts[log] = after + 1
        frame = {"type": "sync", "log": log, "after": after, "limit": limit}
        self.session.receive(json.dumps(frame).encode(), self.now)
        self.flush()

    @precondition(lambda self: self.session is not None and self.session.opened)
    @rule(log=st.sampled_from(LOGS))
    def ack(self, log: str) -> None:
        assert self.session is not None
        self.now += 1
        if self.device.cursor[log] > max(self.session.readings[log].sent, self.session.readings[log].opened_at):
            return  # what it has from an earlier connection
        frame = {"type": "ack", "log": log, "seq": self.device.cursor[log]}
        self.session.receive(json.dumps(frame).encode(), self.now)
        self.flush()

    @invariant()
    def nothing_is_shown_twice_or_out_of_order(self) -> None:
        for log in LOGS:
            wanted = [seq for seq, entry in enumerate(self.entries[log], 1) if entry]
            assert self.device.shown[log] == wanted[: len(self.device.shown[log])]

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        if self.session is not None:
            for reading in self.session.readings.values():
                assert reading._held_bytes <= 256 * 1024
                assert reading._held_bytes == sum(len(run.frame or b"") for run in reading._held)

    def teardown(self) -> None:
        """When all calms down, the device has everything."""
        if self.session is None:
            return
        self.slow, self.stuck = False, 0
        self.session.buffered(0, self.now)
        if self.lost:
            self.session.suspect(self.now)
        for _ in range(400):
            self.flush()
            while self.records:
                self.work(repeat=False)
            while self.bus:
                self.hand(self.bus.pop(0))
            for log in LOGS:
                if log in self.device.gap:
                    self.ask_page(log, self.device.cursor[log], 1000)
            if all(self.device.cursor[log] == len(self.entries[log]) for log in LOGS):
                break
            self.now += 10
            self.session.tick(self.now)
        for log in LOGS:
            assert self.device.cursor[log] == len(self.entries[log]), f"{log} was not completed"
        self.nothing_is_shown_twice_or_out_of_order()


TestSession = Machine.TestCase
TestSession.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
