"""A device's session, Sans-I/O: client frames, bus messages and ticks in; frames and effects out.

It has no clock (`now` is seconds of any steady clock), awaits nothing and does not know its transport. What leaves it
lies in `out` until the hub flushes it. The life of a session: (wait for `hello` where the URL says so) → `Connect` →
the worker's `Opening` → `welcome`, then entries → `CloseWith` or the loss of the transport.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway import codes
from gateway.allowance import Allowance
from gateway.bucket import LIMITS, Limits, Pace
from gateway.effects import Acknowledge, CheckToken, CloseWith, Connect, SameToken
from gateway.passing import Way
from gateway.reading import BULK_LOG, HARD, MOST_TRIES, NEVER, SOFT, Outlet, Reading
from schemas import frames
from schemas.bus import Answer, Opening, Run
from schemas.errors import BadFrame
from schemas.logs import INBOX_LOGS

HELLO: Final = 5.0  # s that `hello` is waited for
ANSWER: Final = 5.0  # s after which `Connect` is said again, then twice that, and so on
MAX_ANSWER: Final = 40.0
STUCK: Final = 20.0  # s that a transport may hold HARD bytes
REFUSED: Final = 5.0  # what a frame that is refused costs, in frames
DEFAULT_DEVICE: Final = ""  # without a name: the session is no device that is remembered
WARN_PART: Final = 0.1  # of a token's life: when that is left, the client is told, so that it brings a new one
WARN_LEAST, WARN_MOST = 2.0, 60.0  # s; the least is more than what the clock of sessions may be late


class Identity(msgspec.Struct, frozen=True):
    """Who a session belongs to; `device` is None where the token names none."""

    session: str
    gateway: str
    user: str
    device: str | None = None


class Session:
    """One session of one device of one user."""

    def __init__(
        self,
        identity: Identity,
        *,
        ttl: float,
        heartbeat: float,
        now: float,
        hello: bool,
        limits: Limits = LIMITS,
        allowance: Allowance | None = None,
        pace: Limits | None = None,
    ) -> None:
        """Begin. `ttl` is how long the token is good and `heartbeat` what `welcome` says, both in seconds.

        `limits` are what this client may say and `allowance` what all sessions of its user may do together; `pace` is
        how many entries of `inbox/bulk` it is sent.
        """
        self.id = identity.session
        self.user = identity.user
        self.device = identity.device or DEFAULT_DEVICE
        self.out = Outlet(allowance)
        self.opened = False
        self.closed = False
        self.connected = False  # the worker has been told of the session
        self.readings: dict[str, Reading] = {}
        self._identity = identity
        self._heartbeat = heartbeat
        self.client = ""  # what it calls itself, for the log
        self._limits = limits
        self._said = now  # the bucket of `limits`
        self._pace = pace
        self._expires = self._warn_at = NEVER
        self._live_until(now, ttl)
        self._epoch = ""
        self._acks: dict[str, tuple[int, int]] = {}  # (delivered, read) by log
        self._stuck_since = NEVER
        self._hello_by = now + HELLO if hello else NEVER
        self._waited = False  # for a hello that did not come
        self._connect: Connect | None = None
        self._connect_at = NEVER
        self._connects = 0
        self._suspected = False
        if not hello:
            self._begin(Connect(None, None), now)

    def _begin(self, connect: Connect, now: float) -> None:
        self._hello_by = NEVER
        self._connect = connect
        self._say_connect(now)

    def _say_connect(self, now: float) -> None:
        if self._connect is not None:
            self.connected = True
            self.out.effects.append(self._connect)
            self._connect_at = now + min(ANSWER * 2**self._connects, MAX_ANSWER)
            self._connects = min(self._connects + 1, MOST_TRIES)

    # From the bus

    def open(self, opening: Opening, now: float) -> None:
        """Welcome the client; an `Opening` that comes again only tells the heads."""
        if self.closed:
            return
        if self.opened and opening.epoch != self._epoch:
            self.close(codes.RESTART)  # another store: the cursors must be judged anew
            return
        if not self.opened:
            self.opened, self._epoch = True, opening.epoch
            self._connect, self._connect_at = None, NEVER
            self._welcome(opening, now)
        for log in opening.logs:
            reading = self.readings.get(log.log) or self._reading(log.log, now)
            reading.open(log, self.out, now)
            reading.pump(self.out, now)
        if self._suspected:
            self.suspect(now)

    def _welcome(self, opening: Opening, now: float) -> None:
        welcome = frames.Welcome(
            session=self.id,
            user=self.user,
            device=self.device,
            epoch=opening.epoch,
            heads={log.log: log.head for log in opening.logs},
            cursors={log.log: log.after for log in opening.logs},
            unread={log.log: log.unread for log in opening.logs},
            heartbeat=self._heartbeat,
            gateway=self._identity.gateway,
            expires_in=round(self._expires - now, 3),
        )
        self.out.say(frames.encode(welcome))
        self.out.later = True  # what is due to an open session may come sooner

    def _reading(self, log: str, now: float) -> Reading:
        pace = Pace(self._pace, now) if self._pace and log == BULK_LOG else None
        reading = self.readings[log] = Reading(log, pace)
        return reading

    def deliver(self, runs: Iterable[Run], now: float) -> None:
        """Take runs of a delivery; before the session is opened they are held."""
        if self.closed:
            return
        behind: list[Reading] = []
        for run in runs:
            reading = self.readings.get(run.log)
            if reading is None:
                if self.opened or run.log not in INBOX_LOGS:
                    continue  # not a log of this session
                reading = self._reading(run.log, now)
            reading.pass_time(now)
            reading.take(run, self.out)
            if reading.head >= reading.expected and reading not in behind:
                behind.append(reading)
        for reading in behind:
            reading.pump(self.out, now)

    def answer(self, answer: Answer, now: float) -> None:
        """Take the answer to a sync."""
        reading = self.readings.get(answer.log)
        if reading is not None and reading.expected and not self.closed:
            reading.pass_time(now)
            reading.answer(answer, self.out)
            reading.pump(self.out, now)

    def suspect(self, now: float) -> None:
        """Sync every log: something may have been lost on the bus."""
        self._suspected = not self.opened  # then an opening that is on its way may be older than what was lost
        if not self.opened and not self.closed and self._connect is not None:
            self._connects = 0  # or the opening itself was lost: do not sit out a long pause
            self._say_connect(now)
        if self.opened and not self.closed:
            for reading in self.readings.values():
                reading.suspect()
                reading.pump(self.out, now)

    def cursors(self) -> dict[str, int]:
        """Return the last seq handed on, by log."""
        return {name: reading.expected - 1 for name, reading in self.readings.items() if reading.expected}

    def held(self) -> int:
        """Return how many runs wait for what comes before them."""
        return sum(reading.held for reading in self.readings.values())

    # From the transport and the clock

    def clear(self, way: Way) -> None:
        """Let entries that are just what comes next pass (`pass_all`), unless something waits."""
        if self.closed or self.out.filled:
            self._halt()
            return
        for reading in self.readings.values():
            reading.clear(way)

    def _halt(self) -> None:
        for reading in self.readings.values():
            reading.halt()

    def choke(self, size: int) -> None:
        """Learn from within a write that the transport holds so many bytes; `buffered` is said after it."""
        self.out.filled, self.out.stuck = size, True
        self._halt()

    def buffered(self, size: int, now: float) -> None:
        """Learn how many bytes the transport holds after a flush, or now that it has drained."""
        out = self.out
        calm = size == 0 and not out.stuck and out.filled < SOFT  # nothing was held back: the usual case
        out.filled, out.stuck = size, size > 0
        if calm:
            return
        if size < HARD:
            self._stuck_since = NEVER
        elif self._stuck_since == NEVER:
            self._stuck_since = now
        if self.closed:
            return
        for reading in self.readings.values():
            if reading.full(size):
                reading.forget_held()
            else:
                reading.pump(out, now)

    def tick(self, now: float) -> None:
        """Do what is due by `now`."""
        if self.closed:
            return
        if now >= self._expires:
            self.close(codes.EXPIRED)
            return
        if now >= self._stuck_since + STUCK:
            self.close(codes.SLOW)
            return
        if now >= self._warn_at and self.opened:
            self._warn_at = NEVER
            self.out.say(frames.encode(frames.TokenExpiring(expires_in=round(self._expires - now, 3))))
        if now >= self._hello_by:
            self._waited = True
            self._begin(Connect(None, None), now)
        if now >= self._connect_at:
            self._say_connect(now)
        for reading in self.readings.values():
            if now >= reading.due(self.out):
                reading.pump(self.out, now)

    def due(self) -> float:
        """Return when `tick` is next needed."""
        if self.closed:
            return NEVER
        soonest = min(self._expires, self._hello_by, self._connect_at, self._stuck_since + STUCK)
        if self.opened:
            soonest = min(soonest, self._warn_at)
        for reading in self.readings.values():
            soonest = min(soonest, reading.due(self.out))
        return soonest

    def close(self, code: int, reason: str = "") -> None:
        """End the session with a code of `gateway.codes`; nothing leaves it after that."""
        if not self.closed:
            self.closed = True
            self._halt()
            self.out.effects.append(CloseWith(code, reason or codes.REASONS[code]))

    def fail(self) -> None:
        """End at once: an exception was raised in this session, and what it was about to say is not to be trusted."""
        self.closed = True
        self.out.frames, self.out.entries, self.out.effects = [], [], []
        self._halt()

    def drain(self, after: int) -> None:
        """Send the client away; it may come back after `after` ms."""
        if not self.closed:
            self.out.say(frames.encode(frames.Reconnect(after=after)))
            self.close(codes.DRAIN)

    # From the client

    def spend(self, now: float, cost: float = 1.0) -> bool:
        """Count what the client said; over the rate the session ends and False is returned."""
        self._said, wait = self._limits.spend(self._said, now, cost)
        if wait:
            self._exceed("session_frames")
        elif not self.out.allowance.say(now, cost):
            self._exceed("user_frames")
        return not self.closed

    def _exceed(self, limit: str) -> None:
        if not self.closed:
            self.out.limited = limit
            self.close(codes.RATE)

    def receive(self, data: bytes, now: float) -> None:
        """Take a text message of the client; what is wrong with it is answered by `error`, and the session goes on.

        A refused `hello` ends it: the device would else be taken for another one.
        """
        self.receive_all((data,), now)

    def receive_all(self, messages: Iterable[bytes], now: float) -> None:
        """Take the messages that one read has brought. Acknowledgements among them become one a log, and are free."""
        for data in messages:
            if self.closed:
                break
            if len(data) > frames.MAX_FRAME:
                self.close(codes.TOO_LARGE)
                break
            try:
                self._take_frame(frames.decode_client_frame(data), now)
            except BadFrame as exc:
                self._refuse_frame(exc, now)

    def _refuse_frame(self, exc: BadFrame, now: float) -> None:
        self._refuse(exc.code, str(exc), exc.ref, now, 1 + REFUSED)
        if exc.frame == "hello" or self._hello_by != NEVER:
            self.close(codes.PROTOCOL, str(exc))

    def _refuse(self, code: str, message: str, ref: str | None, now: float, cost: float = REFUSED) -> None:
        self.out.say(frames.encode(frames.ErrorFrame(code=code, message=message, ref=ref)))
        self.spend(now, cost)

    def _take_frame(self, frame: frames.ClientFrame, now: float) -> None:
        match frame:
            case frames.AckFrame() | frames.ReadFrame():
                self._acknowledge(frame)
            case frames.SyncFrame():
                reading = self._opened_reading(frame.log, frame)
                if self.spend(now):
                    reading.sync(frame.after, frame.limit)
                    reading.pump(self.out, now)
            case frames.Hello():
                self._hello(frame, now)
            case frames.Ping():
                if self.spend(now):
                    self.out.say(_PONG)
            case frames.Refresh():
                if self.spend(now):
                    self.out.effects.append(CheckToken(frame.token, _ref(frame)))

    def _hello(self, hello: frames.Hello, now: float) -> None:
        if self._waited:
            raise BadFrame("bad_request", "hello came too late", _ref(hello), "hello")
        if self._hello_by == NEVER:
            message = "`hello` is said once, first, and where the URL has `hello=1`"
            raise BadFrame("bad_request", message, _ref(hello), "hello")
        claimed = self._identity.device
        if claimed is not None and hello.device not in (None, claimed):
            raise BadFrame("forbidden", "device contradicts the token", _ref(hello), "hello")
        if not self.spend(now):
            return
        if hello.token is not None:
            self.out.effects.append(SameToken(hello.token))
        self.device = claimed or hello.device or DEFAULT_DEVICE
        self.client = (hello.client or "")[: frames.MAX_CLIENT]
        cursors = None
        if hello.cursors is not None:
            cursors = {log: seq for log, seq in hello.cursors.items() if log in INBOX_LOGS}
        self._begin(Connect(hello.epoch, cursors), now)

    def _opened_reading(self, log: str, frame: frames.Client) -> Reading:
        if log not in INBOX_LOGS:
            raise BadFrame("forbidden", "there is no such log, or it is not yours", _ref(frame))
        reading = self.readings.get(log)
        if reading is None or not reading.expected:
            raise BadFrame("bad_request", "wait for `welcome`", _ref(frame))
        return reading

    def _acknowledge(self, frame: frames.AckFrame | frames.ReadFrame) -> None:
        reading = self._opened_reading(frame.log, frame)
        if frame.seq > max(reading.sent, reading.opened_at):
            raise BadFrame("bad_request", "`seq` is beyond what this session was sent", _ref(frame))
        delivered, read = self._acks.get(frame.log, (0, 0))
        if isinstance(frame, frames.ReadFrame):
            merged = (delivered, max(read, frame.seq))
        else:
            merged = (max(delivered, frame.seq), read)
        if merged != (delivered, read):
            self._acks[frame.log] = merged
            self._say_acknowledged(Acknowledge(frame.log, *merged))

    def _say_acknowledged(self, ack: Acknowledge) -> None:
        """Hand on what was acknowledged, once for each flush and log."""
        effects = self.out.effects
        for at, effect in enumerate(effects):
            if isinstance(effect, Acknowledge) and effect.log == ack.log:
                effects[at] = ack
                return
        effects.append(ack)

    def refresh(self, ttl: float, now: float) -> None:
        """Prolong the session: the token that the client brought is good for `ttl` more seconds."""
        self._live_until(now, ttl)

    def _live_until(self, now: float, ttl: float) -> None:
        self._expires = now + ttl
        self._warn_at = self._expires - min(WARN_MOST, max(WARN_LEAST, ttl * WARN_PART))

    def refuse_token(self, message: str, ref: str | None, now: float) -> None:
        """Answer that the token that the client brought is not good; the one before still counts."""
        self._refuse("unauthorized", message, ref, now)

    def accepts(self, user: str, device: str | None) -> bool:
        """Tell whether a token for `user` and `device` may prolong this session."""
        return user == self.user and device in (None, self.device)


_PONG: Final = frames.encode(frames.Pong())


def _ref(frame: frames.Client) -> str | None:
    return None if frame.id is None else str(frame.id)
