"""One log as one session reads it: what is next, what is held, what is missing. Sans-I/O, without a clock.

The rule that everything here serves: a client sees the seq of a log rise by exactly one, or first a frame that says
why not. There is one answer to every hole, whether a message was lost, came out of order, did not fit into the
transport or is backlog that was never pushed: what cannot be handed on now is dropped and its seq remembered as
`head`; as long as `head` is ahead of what was handed on and the transport takes bytes, the reading asks for the
entries after its last one. `inbox/bulk` has a pace as well, and what is above it is held back in the same way. So a
slow client costs the memory of its socket buffer, and a backlog of any length is
paged by the client's own pace.

A client's `sync` names a page. While the page lasts the client gets its entries and nothing beyond; at the end of the
log comes `synced` and live entries flow again; if the page ends first comes `gap` for the rest, and the reading is
**parked**: what is appended meanwhile is told by another `gap` up to the new head, and nothing else flows until the
client's next `sync`. Entries of a page may repeat what the client has; it drops them by its cursor.
"""

from typing import Final

from gateway.allowance import Allowance
from gateway.bucket import Pace
from gateway.effects import AskSync, SessionEffect
from gateway.passing import Position, Way
from schemas import frames
from schemas.bus import GAP, Answer, LogOpening, Run

SOFT: Final = 64 * 1024  # bytes that wait for the network: from here on `inbox/bulk` is held back
HARD: Final = 256 * 1024  # bytes that wait for the network: from here on every log is
ASK: Final = 500  # entries that one ask brings
HELD_RUNS: Final = 512  # runs that wait for a hole before them, a log
HELD_BYTES: Final = 256 * 1024
GRACE: Final = 1.0  # s that an answer may take before it is asked again; then twice that, and so on
MAX_GRACE: Final = 8.0
MOST_TRIES: Final = 16  # counted; asks go on
NEVER: Final = float("inf")
NOT: Final = -1  # no ask is out
WAITS: Final = -2  # none is, until the user's allowance has room for it
BULK_LOG: Final = "inbox/bulk"


class Outlet:
    """What leaves a session until it is flushed, and how full the way out is.

    `entries` lists (log, append time in ms) of the entries among `frames`; the time is 0 for what had been appended
    before the session opened, which says nothing about latency.
    """

    __slots__ = ("allowance", "effects", "entries", "filled", "frames", "later", "limited", "stuck")

    def __init__(self, allowance: Allowance | None = None) -> None:
        """Begin with nothing; `allowance` is the user's, which bounds what is asked for on behalf of the client."""
        self.allowance = allowance or Allowance()
        self.frames: list[bytes] = []
        self.entries: list[tuple[str, int]] = []
        self.effects: list[SessionEffect] = []
        self.filled = 0  # bytes that the transport holds, and those in `frames`
        self.later = False  # something waits for a time, not for the transport or the bus
        self.limited = ""  # the limit that was reached since the last flush (`gateway.admission.LIMITS`)
        self.stuck = False  # the transport did not take all of the last flush

    def say(self, frame: bytes) -> None:
        """Add a frame."""
        self.frames.append(frame)
        self.filled += len(frame)


class Reading(Position):
    """The state of one log in one session."""

    __slots__ = (
        "_announced", "_asked", "_grace", "_held", "_held_bytes", "_limit", "_retry_at", "_syncing",
        "_tries", "_unsure", "_until", "name", "opened_at", "pace",
    )  # fmt: skip

    def __init__(self, name: str, pace: Pace | None = None) -> None:
        self.name = name
        self.pace = pace
        self.expected = self.head = self.sent = self.next = 0
        self.way = None
        self.opened_at = 0  # the head when the session opened
        self._limit = SOFT if name == BULK_LOG else HARD
        self._held: list[Run] = []  # by first
        self._held_bytes = 0
        self._asked = NOT  # `after` of the ask that is out
        self._grace = False  # the ask that is out is the opening's own window
        self._retry_at = NEVER
        self._tries = 0
        self._unsure = False  # the head may be higher than we know
        self._until = 0  # last seq of the client's page, 0: no page
        self._syncing = False  # the client waits for the end of its page
        self._announced = 0  # last seq of the last `gap`

    def open(self, opening: LogOpening, out: Outlet, now: float) -> None:
        """Begin after `opening.after`, or, if that was done already, learn the head.

        The worker sends the first window of the backlog by itself, so the first ask waits for it.
        """
        self.next = 0
        self.head = max(self.head, opening.head)
        if self.expected:
            return
        self.expected = opening.after + 1
        self.sent = opening.after
        self.opened_at = opening.head
        if opening.notice == "reset":
            out.say(frames.encode(frames.Reset(log=self.name, head=opening.after)))
        elif opening.notice == "too_long":
            out.say(frames.encode(frames.TooLong(log=self.name, head=opening.after)))
        if self.head >= self.expected:
            self._asked, self._grace, self._retry_at = opening.after, True, now + GRACE

    def pass_time(self, now: float) -> None:
        """Let the pace know the time; said before `take` and `answer`."""
        if self.pace is not None:
            self.pace.refill(now)

    def take(self, run: Run, out: Outlet) -> None:
        """Hand a run on, hold it until what is before it came, or drop it."""
        self.next = 0
        self.head = max(self.head, run.last)
        if run.reason == GAP:
            if self._grace:
                self._asked, self._grace = NOT, False
        elif run.last < self.expected or (self._until and run.first > self._until):
            return
        elif not self._room(out):
            if not out.stuck and not self._paced():  # the flush will make room
                self._hold(run)
        elif 0 < self.expected >= run.first:
            self._hand_on(run, out)
        else:
            self._hold(run)

    def clear(self, way: Way) -> None:
        """Let the entries that come next pass (`pass_all`), if no page, pace, ask, doubt or held run has a say.

        Every other call that may change that ends it, so this is said again after them.
        """
        if (
            not self.next
            and 0 < self.expected > max(self.head, self.sent)
            and self._asked < 0
            and not self._until
            and not self._unsure
            and not self._held
            and self.pace is None
        ):
            self.next, self._tries, self.way = self.expected, 0, way

    def halt(self) -> None:
        """Let nothing pass."""
        self.next = 0

    def _room(self, out: Outlet) -> bool:
        if self._until:
            return out.filled < self._limit and self.expected <= self._until
        return out.filled < self._limit and not self._paced()

    def _paced(self) -> bool:
        """Tell whether the log is held back for its pace; what the client asks for itself is not."""
        return self.pace is not None and not self._until and self.pace.empty()

    def _hand_on(self, run: Run, out: Outlet) -> None:
        if run.frame is not None:
            out.say(run.frame)
            if self.pace is not None and not self._until:
                self.pace.spend()
            out.entries.append((self.name, run.ts if run.last > self.opened_at else 0))
        else:
            skip = frames.Skip(log=self.name, first=self.expected, last=run.last, reason=run.reason)
            out.say(frames.encode(skip))
        self.expected = run.last + 1
        self.sent = max(self.sent, run.last)
        self._tries = 0
        if self.expected > self.head and not self._syncing and not self._unsure:
            self._asked, self._grace = NOT, False  # whatever was asked for has come

    def _hold(self, run: Run) -> None:
        size = len(run.frame or b"")
        if len(self._held) >= HELD_RUNS or self._held_bytes + size > HELD_BYTES:
            return
        at = len(self._held)
        while at and self._held[at - 1].first > run.first:
            at -= 1
        if at and self._held[at - 1].last >= run.last:
            return  # held already
        self._held.insert(at, run)
        self._held_bytes += size

    def _release(self, out: Outlet) -> None:
        """Hand on what was held and is next."""
        taken = 0
        for run in self._held:
            if run.first > self.expected or not self._room(out):
                break
            taken += 1
            self._held_bytes -= len(run.frame or b"")
            if run.last >= self.expected:
                self._hand_on(run, out)
        del self._held[:taken]

    def answer(self, answer: Answer, out: Outlet) -> None:
        """Take the answer to an ask; where it ends the client's page, say so. `pump` comes after it."""
        self.next = 0
        self.head = max(self.head, answer.head)
        before = self.expected
        if self._syncing and answer.asked and self._asked == answer.after and self.head < before - 1:
            out.say(frames.encode(frames.Reset(log=self.name, head=self.head)))
            self.expected, self._until, self._syncing, self._asked = self.head + 1, 0, False, NOT
            return
        for run in answer.runs:
            self.take(run, out)
        self._release(out)
        if self._asked != answer.after:
            return  # the client has asked for another place since
        self._unsure = False
        # An answer that brought nothing must not be followed by the same question at once.
        if self.expected > before or self.head < before or any(run.last >= before for run in answer.runs):
            self._asked = NOT
        if answer.asked and self._syncing:
            self._end_page(out)

    def _end_page(self, out: Outlet) -> None:
        if self.expected > self.head:
            self._syncing, self._until = False, 0
            out.say(frames.encode(frames.Synced(log=self.name, head=self.head)))
        elif self.expected > self._until:
            self._syncing = False
            self._say_gap(out)

    def _say_gap(self, out: Outlet) -> None:
        self._announced = self.head
        out.say(frames.encode(frames.Gap(log=self.name, first=self.expected, last=self.head)))

    def sync(self, after: int, limit: int) -> None:
        """Begin the page (after, after + limit] that the client wants. `pump` comes after it."""
        self.next = 0
        self.expected = after + 1
        self._until = after + limit
        self._syncing = True
        self._asked, self._grace, self._tries = NOT, False, 0

    def suspect(self) -> None:
        """Something may have been lost without a trace: ask, even though no hole is known. `pump` comes after it."""
        self.next = 0
        self._unsure = bool(self.expected)
        self._asked, self._grace = NOT, False

    @property
    def held(self) -> int:
        """How many runs wait for what comes before them."""
        return len(self._held)

    def forget_held(self) -> None:
        """Keep no runs for a transport that is stuck; the log has them."""
        self._held.clear()
        self._held_bytes = 0

    def full(self, filled: int) -> bool:
        """Tell whether `filled` bytes on the way out hold this log back."""
        return filled >= self._limit

    def pump(self, out: Outlet, now: float) -> None:
        """Hand on what can be, and ask for what is missing unless that was done a moment ago."""
        self.next = 0
        if not self.expected:
            return
        self.pass_time(now)
        self._release(out)
        parked = self._parked()
        if parked and self.head > self._announced and not self.full(out.filled):
            self._say_gap(out)
        if not self._wants(parked) or self.full(out.filled):
            return
        if self._paced():
            out.later = True
            return
        if self._asked != NOT and now < self._retry_at:
            return
        limit = min(ASK, max(1, self._until - self.expected + 1)) if self._until else ASK
        if self._syncing and (wait := out.allowance.ask(now, max(1, min(limit, self.head - self.expected + 1)))):
            self._asked, self._retry_at = WAITS, now + wait
            out.later, out.limited = True, "user_entries"
            return
        out.effects.append(AskSync(self.name, self.expected - 1, limit, self._syncing))
        self._asked, self._grace = self.expected - 1, False
        self._retry_at = now + min(GRACE * 2**self._tries, MAX_GRACE)
        self._tries = min(self._tries + 1, MOST_TRIES)

    def _parked(self) -> bool:
        return bool(self._until) and not self._syncing and self.expected > self._until

    def _wants(self, parked: bool) -> bool:
        return self._unsure or self._syncing or (self.head >= self.expected and not parked)

    def due(self, out: Outlet) -> float:
        """Return when `pump` is next needed although nothing comes in."""
        if not self._wants(self._parked()) or self.full(out.filled):
            return NEVER
        if self.pace is not None and self._paced():
            return self.pace.resumes
        return self._retry_at if self._asked != NOT else NEVER
