"""Entries that are just what comes next go to all who wait for them: the way of nearly all deliveries.

With many sessions each of them finds its memory cold, so this looks at one object a session. `_passing.c` does the same
in C and is taken where it was built (`gateway.passing`).
"""

from collections.abc import Callable, Mapping, Sequence

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


def pass_on(
    positions: Mapping[str, Position], sessions: Sequence[str], first: int, last: int, data: bytes
) -> list[str]:
    """Send entry `first` to `last`, framed, to the sessions that wait for just this one; return the others."""
    position_of = positions.get
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
