"""Who is here: every session of this process, by id and by partition, what it reads, and who has just left."""

from collections import defaultdict
from collections.abc import Collection
from typing import Final

from gateway.passing import Readers
from gateway.peer import Peer
from gateway.session import Session

REMEMBERED: Final = 10.0  # s in which a session that has left is remembered: its worker is being told


class Roster:
    """The sessions of a gateway. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self.sessions: dict[str, Peer] = {}
        self.logs: dict[str, Readers] = {}  # who reads them, by log
        self._by_partition: defaultdict[int, set[Peer]] = defaultdict(set)
        self._left: dict[str, float] = {}  # by session, oldest first

    def add(self, peer: Peer) -> None:
        """Enter a session."""
        self.sessions[peer.session.id] = peer
        self._by_partition[peer.partition].add(peer)

    def reads(self, session: Session) -> None:
        """Enter what a session reads; again when it reads more."""
        for log, reading in session.readings.items():
            readers = self.logs.get(log)
            if readers is None:
                readers = self.logs[log] = Readers()
            readers.enter(session.id, reading)

    def remove(self, peer: Peer, now: float) -> bool:
        """Strike a session out; return whether it was there."""
        if self.sessions.pop(peer.session.id, None) is None:
            return False
        here = self._by_partition[peer.partition]
        here.discard(peer)
        if not here:
            del self._by_partition[peer.partition]
        for log in peer.session.readings:
            if (readers := self.logs.get(log)) is not None:
                readers.strike(peer.session.id)
                if not readers:
                    del self.logs[log]
        self.note_left(peer.session.id, now)
        return True

    def of_partition(self, partition: int) -> Collection[Peer]:
        """Return the sessions of users of a partition."""
        return self._by_partition.get(partition, ())

    def note_left(self, session: str, now: float) -> None:
        """Remember for a while that a session is not here any more, or never was."""
        self._left.pop(session, None)  # the order is that of the times
        self._left[session] = now

    def has_left(self, session: str) -> bool:
        """Tell whether a session is known not to be here."""
        return session in self._left

    def forget(self, now: float) -> None:
        """Forget who left long ago."""
        while self._left and (first := next(iter(self._left))) and now - self._left[first] > REMEMBERED:
            del self._left[first]
