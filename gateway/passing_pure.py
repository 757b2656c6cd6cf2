"""Entries that are just what comes next go to all who wait for them: the way of nearly all deliveries.

With many sessions each of them finds its memory cold, so this looks at one object a session. `native/` does the same
in C and is taken where it was built (`gateway.passing`).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Final

from gateway.framing import framed
from schemas.bus import Delivery

MOST: Final = 8  # sessions of a delivery that `pass_all` takes; one for more goes in pieces, so that others may run

Write = Callable[[bytes], object]  # hands bytes to the network


class Way:
    """How all bytes leave a connection: `write` is its transport's own, `waiting` says how many bytes that holds.

    `fd` is the socket, which may be written to while the transport holds nothing; -1: it may not (TLS). Who writes to
    the transport and not here may see bytes overtake each other.
    """

    __slots__ = ("_write",)

    def __init__(self, write: Write, waiting: Callable[[], int], fd: int) -> None:  # noqa: ARG002  # the one in C asks
        self._write = write

    def send(self, data: bytes) -> None:
        """Hand bytes to the network, in the order of all that is written."""
        self._write(data)

    def shut(self) -> None:
        """Let nothing go past the transport any more: the socket is closed, and its number may be another's soon."""


class Position:
    """Where one session stands in one log.

    `expected` is the next seq, 0 until the log is opened; `head` is the highest that is known to exist, `sent` the
    highest that was handed on; `next` is the seq that may pass, 0: none, and `way` where it goes then.
    """

    __slots__ = ("expected", "head", "next", "sent", "way")

    expected: int
    head: int
    sent: int
    next: int
    way: Way | None


class Readers:
    """Who reads a log: where each session stands in it."""

    __slots__ = ("positions",)

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}

    def __len__(self) -> int:
        return len(self.positions)

    def enter(self, session: str, position: Position) -> None:
        """Note where a session stands."""
        self.positions[session] = position

    def strike(self, session: str) -> None:
        """Forget a session, if it is there."""
        self.positions.pop(session, None)


def pass_on(readers: Readers, sessions: Sequence[str], first: int, last: int, data: bytes) -> list[str]:
    """Send entry `first` to `last`, framed, to the sessions that wait for just this one; return the others."""
    position_of = readers.positions.get
    others = []
    for session in sessions:
        position = position_of(session)
        if position is None or position.next != first or not first or position.way is None:
            others.append(session)
            continue
        position.next = position.expected = last + 1
        position.head = position.sent = last
        position.way.send(data)
    return others


def pass_all(
    parts: Sequence[bytes], logs: Mapping[str, Readers], decode: Callable[[bytes], list[Delivery]]
) -> tuple[list[tuple[Delivery, list[str] | None]], list[tuple[str, int, int]]]:
    """Send the entries of deliveries, packed as they come, to the sessions that wait for just these.

    A part is an array of deliveries, which `decode` would make of it; `logs` are their readers by log. Returns the
    deliveries that are for somebody to look at, each with the sessions that are left (None: all of them), and what has
    passed: (log, append time in ms, sessions), in any number of rows. Raises what `decode` raises, when some may have
    passed.
    """
    others: list[tuple[Delivery, list[str] | None]] = []
    passed = []
    for delivery in chain.from_iterable(map(decode, parts)):
        sessions, run = delivery.sessions, delivery.runs[0] if len(delivery.runs) == 1 else None
        if run is None or run.frame is None or len(sessions) > MOST or run.log not in logs:
            others.append((delivery, None))
            continue
        left = pass_on(logs[run.log], sessions, run.first, run.last, framed(run.frame))
        if len(left) < len(sessions):
            passed.append((run.log, run.ts, len(sessions) - len(left)))
        if left:
            others.append((delivery, left))
    return others, passed
