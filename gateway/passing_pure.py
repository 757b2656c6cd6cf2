"""Entries that are just what comes next go to all who wait for them: the way of nearly all deliveries.

With many sessions each of them finds its memory cold, so this looks at one object a session. `native/` does the same
in C and is taken where it was built (`gateway.passing`).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import msgspec

from gateway.framing import framed
from schemas.bus import Delivery, Run

Write = Callable[[bytes], object]  # hands bytes to the network


class Way:
    """How all bytes leave a connection: `write` is its transport's own, `waiting` says how many bytes that holds.

    `fd` is the socket, which may be written to while the transport holds nothing; -1: it may not (TLS). Who writes to
    the transport and not here may see bytes overtake each other.
    """

    __slots__ = ("_failure", "_write")

    def __init__(self, write: Write, waiting: Callable[[], int], fd: int) -> None:  # noqa: ARG002  # the one in C asks
        self._write = write
        self._failure: Exception | None = None

    def send(self, data: bytes) -> None:
        """Hand bytes to the network, in the order of all that is written.

        Raises what `write` raises, and that again from then on: nobody knows how much of a message has gone.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._write(data)
        except Exception as exc:
            self._failure = exc
            raise

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


Left = tuple[Delivery, list[str] | None]  # a delivery and the sessions that it did not pass; None: it was not tried
Passed = tuple[str, int, int]  # (log, append time in ms, sessions)


def pass_all(
    parts: list[msgspec.Raw], logs: dict[str, Readers], decode: Callable[[bytes], list[Delivery]], most: int
) -> Iterator[tuple[list[Left], list[Passed]]]:
    """Send the entries of deliveries, packed as they come, to the sessions that wait for just these.

    A part is an array of deliveries, which `decode` would make of it; `logs` are their readers by log. Yields, each
    time that about `most` sessions have been served, the deliveries that are for somebody to look at and what has
    passed, in any number of rows. A session whose way fails is left, as if it waited for something else; the others get
    theirs. Raises what `decode` raises, when some may have passed, and `ValueError` for a `most` below 1.
    """
    if most < 1:
        raise ValueError("a turn is for one session at the least")
    others: list[Left] = []
    passed: list[Passed] = []
    served = 0
    for delivery in chain.from_iterable(map(decode, parts)):
        entry, left = _only_entry(delivery), list[str]()
        readers = logs.get(entry.log) if entry else None
        for at in range(0, len(delivery.sessions) or 1, most):
            if served >= most:
                yield others, passed
                others, passed, served = [], [], 0
            piece = delivery.sessions[at : at + most]
            served += len(piece) or 1
            if entry is not None and readers is not None and (count := _pass(entry, readers, piece, left)):
                passed.append((entry.log, entry.ts, count))
        if readers is None:
            others.append((delivery, None))
        elif left:
            others.append((delivery, left))
    if others or passed:
        yield others, passed


def _only_entry(delivery: Delivery) -> Run | None:
    return delivery.runs[0] if len(delivery.runs) == 1 and delivery.runs[0].frame is not None else None


def _pass(entry: Run, readers: Readers, sessions: Sequence[str], left: list[str]) -> int:
    """Send an entry to the sessions that wait for just this one, and return how many; add the others to `left`."""
    position_of, data, passed = readers.positions.get, framed(entry.frame or b""), 0
    for session in sessions:
        position = position_of(session)
        if position is None or position.next != entry.first or not entry.first or position.way is None:
            left.append(session)
            continue
        before = position.expected, position.head, position.sent
        position.next = position.expected = entry.last + 1
        position.head = position.sent = entry.last
        try:
            position.way.send(data)
        except Exception:  # noqa: BLE001 - who looks at what is left meets it again, and knows the session
            position.next = 0
            position.expected, position.head, position.sent = before
            left.append(session)
            continue
        passed += 1
    return passed
