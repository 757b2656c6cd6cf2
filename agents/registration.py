"""Sessions as they become while a batch is registered, and which of them are refused."""

from collections import defaultdict
from typing import Any, Final, Protocol

from schemas.bus import TOO_MANY_SESSIONS, Refusal
from streams.connections import Place, Sessions

REASON: Final = "too many sessions"
_UNSAID: Final[Any] = object()


class Table(Protocol):
    """The sessions of users, as they were before the batch."""

    def get(self, partition: int, user: str) -> Sessions:
        """Return the open sessions of a user."""


class Gateways(Protocol):
    """What is known of gateways."""

    def gone(self, gateway: str) -> bool:
        """Say whether a gateway is dead, or seems to be."""


class Registration:
    """What a batch changes. A user has at most `limit` sessions; those on gateways that are gone make room first."""

    def __init__(self, table: Table, gateways: Gateways, limit: int) -> None:
        self._table = table
        self._gateways = gateways
        self._limit = limit
        self._changed: defaultdict[tuple[int, str], dict[str, Place | None]] = defaultdict(dict)
        self._counts: dict[tuple[int, str], int] = {}
        self.refused: list[tuple[int, str, Refusal]] = []  # partition, gateway, refusal

    def _now(self, partition: int, user: str, session: str) -> Place | None:
        said: Any = self._changed[partition, user].get(session, _UNSAID)
        return self._table.get(partition, user).get(session) if said is _UNSAID else said

    def open(self, partition: int, user: str, session: str, place: Place) -> bool:
        """Register a session; False: it is refused, since its user has too many."""
        who = (partition, user)
        before = self._now(partition, user, session)
        if before is None:
            if who not in self._counts:
                self._counts[who] = len(self._table.get(partition, user))
            if self._counts[who] >= self._limit:
                self._make_room(partition, user)
            if self._counts[who] >= self._limit:
                self.refused.append((partition, place.gateway, Refusal(session, TOO_MANY_SESSIONS, REASON)))
                return False
            self._counts[who] += 1
        if before != place:
            self._changed[who][session] = place
        return True

    def close(self, partition: int, user: str, session: str) -> None:
        """Strike a session out."""
        if self._now(partition, user, session) is None:
            return
        who = (partition, user)
        self._counts[who] = self._counts.get(who, len(self._table.get(partition, user))) - 1
        self._changed[who][session] = None

    def _make_room(self, partition: int, user: str) -> None:
        for session in [*self._table.get(partition, user), *self._changed[partition, user]]:
            place = self._now(partition, user, session)
            if place is not None and self._gateways.gone(place.gateway):
                self.close(partition, user, session)

    def changes(self) -> dict[int, dict[str, dict[str, Place | None]]]:
        """Return what changed, by partition and user."""
        result: defaultdict[int, dict[str, dict[str, Place | None]]] = defaultdict(dict)
        for (partition, user), changed in self._changed.items():
            if changed:
                result[partition][user] = changed
        return result
