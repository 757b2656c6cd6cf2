"""Table `connections`: the open sessions of every user, in groups of at most `GROUP`.

Single writer: the connections agent and the sweep (`agents/connections.py`, `agents/sweep.py`), under the turnstile.
The inbox agents only read it.

Each value holds one group, so that its size and what a new session writes are bounded however many sessions a user has.
Group 0 also says how many groups there are; nearly every user has one, which is one lookup. A value that cannot be read
counts as empty: sessions are soft state, and gateways announce them again under each new epoch of the partition.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from schemas.errors import Kind
from streams.connections import Place, Sessions
from streams.failures import kind
from streams.halving import spared
from streams.producer import BatchProducer
from tables.kept import UNKNOWN, Kept
from tables.rocks import Change, RocksTable

log = logging.getLogger(__name__)

GROUP: Final = 16  # sessions in one value
LARGEST: Final = 64 * 1024  # bytes of a value that is read; ids have limits, so ours are smaller

Changed = Mapping[str, Place | None]  # by session: where it is now; None: it has ended
LeftOut = Callable[[str, Exception], object]  # user, and why the sessions are refused

_PREFIX: Final = b"sessions/"  # a user may be called like one of the keys that a table keeps for itself
_OWN: Final = b"`"  # what the table keeps for itself comes before


class Group(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A value: some of a user's sessions; in group 0 also how many `groups` there are."""

    groups: int
    sessions: Sessions


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Group).decode


def _key(user: bytes, group: int) -> bytes:
    return b"".join((_PREFIX, user, group.to_bytes(4, "big")))


def _place(partition: int, user: bytes) -> bytes:
    return partition.to_bytes(4, "big") + user


def _decoded(value: bytes | None) -> Group | None:
    """Return what a value says; None: it is missing, or not one of ours."""
    if value is None or len(value) > LARGEST:
        return None
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class _Known(msgspec.Struct, gc=False):
    """The sessions of a user; by group where there are several, and then also the group of each."""

    sessions: Sessions
    groups: list[Sessions] | None = None
    homes: dict[str, int] | None = None
    room: int = 0  # no group before this one has room

    def group(self, number: int) -> Sessions:
        if self.groups is None:
            return self.sessions if number == 0 else {}
        return self.groups[number] if number < len(self.groups) else {}

    def home(self, session: str) -> int | None:
        if self.homes is None:
            return 0 if session in self.sessions else None
        return self.homes.get(session)

    def count(self) -> int:
        return len(self.groups) if self.groups is not None else 1 if self.sessions else 0


def _known(groups: list[Sessions]) -> _Known:
    if len(groups) < 2:
        return _Known(groups[0] if groups else {})
    homes = {session: number for number, group in enumerate(groups) for session in group}
    return _Known({session: groups[home][session] for session, home in homes.items()}, groups, homes)


_NOBODY: Final = _Known({})


class _Plan:
    """What changes make of the groups of a user."""

    def __init__(self, known: _Known, changed: Changed) -> None:
        self._known = known
        self.touched: dict[int, Sessions] = {}
        self.room = known.room
        self.count = known.count()
        for session, place in changed.items():
            self._change(session, place)
        while self.count and not self._group(self.count - 1):
            self.count -= 1

    def _group(self, number: int) -> Sessions:
        return self.touched[number] if number in self.touched else self._known.group(number)

    def _mine(self, number: int) -> Sessions:
        if number not in self.touched:
            self.touched[number] = dict(self._known.group(number))
        return self.touched[number]

    def _change(self, session: str, place: Place | None) -> None:
        home = self._known.home(session)
        if place is None:
            if home is not None:
                del self._mine(home)[session]
                self.room = min(self.room, home)
            return
        if home is None:
            while len(self._group(self.room)) >= GROUP:
                self.room += 1
            home = self.room
            self.count = max(self.count, home + 1)
        self._mine(home)[session] = place

    def writes(self, user: bytes) -> list[Change]:
        """Return what is written; a group before group 0, which counts it."""
        before = self._known.count()
        if self.count != before:
            self._mine(0)
            for number in range(self.count, before):
                self.touched[number] = {}
        numbers = sorted(self.touched, reverse=True)
        return [(_key(user, number), self._value(number, self.touched[number])) for number in numbers]

    def _value(self, number: int, sessions: Sessions) -> bytes | None:
        if number >= self.count:
            return None
        return _encode(Group(self.count if number == 0 else 0, sessions))

    def done(self) -> _Known:
        """Return the sessions as they are now; what is known changes in place where there are several groups."""
        known = self._known
        if self.count < 2 or known.groups is None or known.homes is None:
            return _known([self._group(number) for number in range(self.count)])
        for number in sorted(self.touched):
            sessions = self.touched[number]
            for session in known.group(number):
                known.sessions.pop(session, None)
                known.homes.pop(session, None)
            if number < self.count:
                known.sessions |= sessions
                known.homes |= dict.fromkeys(sessions, number)
                known.groups[number : number + 1] = [sessions]
        del known.groups[self.count :]
        known.room = self.room
        return known


class Found(msgspec.Struct, frozen=True):
    """What a look at some values of a partition found: `sessions` by user, keys that mean nothing, where to go on."""

    sessions: list[tuple[str, Sessions]]
    junk: list[bytes]
    last: bytes | None  # None: this was the end


class ConnectionTable:
    """Sessions by user id."""

    def __init__(self, app: Any, *, partitions: int, left_out: LeftOut = lambda *_: None) -> None:
        """`left_out` is told of users whose sessions Kafka refuses: those are not known, and get nothing live."""
        self._begin(RocksTable(app, "connections", partitions=partitions), left_out)

    def _begin(self, rocks: RocksTable, left_out: LeftOut = lambda *_: None) -> None:
        self._rocks = rocks
        self._left_out = left_out
        self._kept: Kept[bytes, _Known] = Kept()
        rocks.on_recovery = self._kept.clear

    def get(self, partition: int, user: str) -> Sessions:
        """Return the open sessions of a user of an owned partition; they are shared, and change with the next `write`.

        Raises `TableBroken`.
        """
        name = user.encode()
        place = _place(partition, name)
        known: Any = self._kept.get(place)
        if known is UNKNOWN:
            known = self._load(partition, name)
            self._kept.keep(place, known)
        sessions: Sessions = known.sessions
        return sessions

    def _load(self, partition: int, user: bytes) -> _Known:
        value = self._rocks.get(partition, _key(user, 0))
        if value is None:
            return _NOBODY
        first = _decoded(value)
        if first is None:
            log.warning("the sessions of %r cannot be read and count as none: %d bytes", user[:64], len(value))
            return _NOBODY
        groups = [first.sessions]
        for number in range(1, first.groups):
            found = _decoded(self._rocks.get(partition, _key(user, number)))
            groups.append(found.sessions if found else {})
        return _known(groups)

    async def write(
        self,
        producer: BatchProducer,
        changes: Mapping[int, Mapping[str, Changed]],
        junk: Mapping[int, Sequence[bytes]] | None = None,
    ) -> None:
        """Write what changed by partition and user, and return when the changelog has it; `junk` are keys to delete.

        Where Kafka refuses what is written of a user, that is left out, and the sessions stay as they were.
        """
        items = [(partition, user, changed) for partition, users in changes.items() for user, changed in users.items()]
        try:
            await self._write(producer, items, junk or {})
        except Exception as exc:
            if kind(exc) is not Kind.REFUSED:
                raise
            await spared(
                items, lambda some: self._write(producer, some, {}), lambda one, why: self._left_out(one[1], why)
            )

    async def _write(
        self, producer: BatchProducer, items: Sequence[tuple[int, str, Changed]], junk: Mapping[int, Sequence[bytes]]
    ) -> None:
        plans: list[tuple[bytes, _Plan]] = []
        writes: dict[int, list[Change]] = {partition: [(key, None) for key in keys] for partition, keys in junk.items()}
        for partition, user, changed in items:
            name = user.encode()
            self.get(partition, user)
            place = _place(partition, name)
            plan = _Plan(self._kept.get(place), changed)
            plans.append((place, plan))
            writes.setdefault(partition, []).extend(plan.writes(name))
        try:
            await self._rocks.write(producer, writes)
        except BaseException:
            for place, _ in plans:
                self._kept.drop(place)  # it may have failed half way: the files say what is true
            raise
        for place, plan in plans:
            self._kept.keep(place, plan.done())

    def look(self, partition: int, after: bytes, limit: int) -> Found:
        """Look at the values of at most `limit` keys after one, in their order. Raises `TableBroken`.

        Nothing of it is kept: who looks at all values would else drive out those that are used.
        """
        found = self._rocks.scan(partition, max(after, _OWN), limit)
        sessions: list[tuple[str, Sessions]] = []
        junk: list[bytes] = []
        for key, value in found:
            group = _decoded(value) if key.startswith(_PREFIX) else None
            user = _user(key) if group else None
            if group is None or user is None or not self._counted(partition, key):
                junk.append(key)
            else:
                sessions.append((user, group.sessions))
        return Found(sessions, junk, found[-1][0] if len(found) == limit else None)

    def _counted(self, partition: int, key: bytes) -> bool:
        """Say whether group 0 of the user counts the group of a key."""
        number = int.from_bytes(key[-4:], "big")
        if number == 0:
            return True
        first = _decoded(self._rocks.get(partition, _key(key[len(_PREFIX) : -4], 0)))
        return first is not None and number < first.groups


def _user(key: bytes) -> str | None:
    try:
        return key[len(_PREFIX) : -4].decode()
    except UnicodeDecodeError:
        return None
