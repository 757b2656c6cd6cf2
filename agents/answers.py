"""What sessions are told of their logs: what was asked for in a batch, and the plan of the answers. Pure."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final

import msgspec

from agents.fanout import Fanout
from schemas.bus import GAP, Answer, Delivery, LogOpening, Opening, Run
from schemas.logs import INBOX_LOGS, log_key
from schemas.records import Announce, Connected, SyncRequest
from schemas.rows import Head, Range, Row
from streams.connections import Cursors, read_mark, start_of, stored_cursor, window
from streams.unread import Unread

WINDOW: Final = 200  # entries of a log that are sent with the opening, unasked
WINDOW_BYTES: Final = 256 * 1024  # bytes of frames in one answer
PIECE: Final = 32  # requests that are answered together at first
LARGEST_PIECE: Final = 256
PIECE_BYTES: Final = 4 * 1024 * 1024  # bytes of rows that are read for one piece, about
PIECE_ROWS: Final = 512  # rows of a piece that has more than one request: some 50 ms of a worker
WHOLE_ROW: Final = 4  # expiries that cost as much to read as a row


class Asking(msgspec.Struct, frozen=True):
    """One request of a `Sync`, which may carry those of many sessions."""

    partition: int
    gateway: str
    request: SyncRequest


Requested = tuple[int, Connected | Asking | Announce]  # partition, request


def in_turn(requests: Iterable[Requested]) -> list[Requested]:
    """Return openings and reminders so that each user's first comes before anybody's second."""
    seen: defaultdict[str, int] = defaultdict(int)
    ranked = []
    for partition, asked in requests:
        user = asked.user if isinstance(asked, Connected) else ""
        ranked.append((seen[user], partition, asked))
        seen[user] += bool(user)
    ranked.sort(key=lambda one: one[0])
    return [(partition, asked) for _, partition, asked in ranked]


class Asked:
    """What some sessions want to know."""

    def __init__(self, epochs: Mapping[int, int], requests: Iterable[Requested] = ()) -> None:
        self.epochs = epochs
        self._requests: list[Requested] = list(requests)

    def __len__(self) -> int:
        return len(self._requests)

    def by_user(self) -> dict[str, "Asked"]:
        """Return the requests of each user by themselves."""
        found: defaultdict[str, list[Requested]] = defaultdict(list)
        for partition, asked in self._requests:
            if isinstance(asked, Announce):
                for said in asked.sessions:
                    found[said.user].append((partition, msgspec.structs.replace(asked, sessions=[said])))
            else:
                found[asked.request.user if isinstance(asked, Asking) else asked.user].append((partition, asked))
        return {user: Asked(self.epochs, requests) for user, requests in found.items()}

    def piece(self, first: int, count: int) -> "Asked":
        """Return some of the requests, so that what all of them take need not be in memory at once."""
        return Asked(self.epochs, self._requests[first : first + count])

    @property
    def connected(self) -> list[tuple[int, Connected]]:
        """The sessions that opened, by partition."""
        return [(partition, asked) for partition, asked in self._requests if isinstance(asked, Connected)]

    @property
    def syncs(self) -> list[tuple[int, str, SyncRequest]]:
        """The ranges asked for: partition, gateway, request; those of the same rows side by side."""
        found = [(partition, a.gateway, a.request) for partition, a in self._requests if isinstance(a, Asking)]
        return sorted(found, key=lambda one: (INBOX_LOGS.index(one[2].log), one[2].user))

    @property
    def announced(self) -> list[tuple[int, Announce]]:
        """What gateways say of the sessions that they hold, by partition."""
        return [(partition, asked) for partition, asked in self._requests if isinstance(asked, Announce)]

    def claimed(self) -> dict[str, int]:
        """Return the highest seq that a device says it has, by the log's key."""
        said = [(log_key(log, one.user), seq) for _, one in self.connected for log, seq in (one.cursors or {}).items()]
        said += [(log_key(sync.log, sync.user), sync.after) for _, _, sync in self.syncs]
        highest: defaultdict[str, int] = defaultdict(int)
        for key, seq in said:
            highest[key] = max(highest[key], seq)
        return highest

    def logs(self) -> Iterable[tuple[int, str, str]]:
        """Return (partition, user, log) of every head that is needed, each once."""
        wanted = {(partition, said.user, log) for partition, said in self.connected for log in INBOX_LOGS}
        wanted |= {(partition, sync.user, sync.log) for partition, _, sync in self.syncs}
        wanted |= {
            (partition, said.user, log)
            for partition, record in self.announced
            for said in record.sessions
            for log in said.cursors
            if log in INBOX_LOGS
        }
        return wanted


class Plan:
    """Where every session starts, and which rows that takes.

    `cursors` are those that decide, by (user, device). A session of one of the `thrifty` users is told with its opening
    how far its logs go, and nothing more: it asks, and that waits for the user's budget.
    """

    def __init__(
        self,
        asked: Asked,
        heads: Mapping[str, Head],
        cursors: Mapping[tuple[str, str], Cursors],
        epoch: str,
        backlog: int,
        thrifty: Container[str] = (),
    ) -> None:
        self.asked = asked
        self._thrifty = thrifty
        self._heads = heads
        self._cursors = cursors
        self._epoch = epoch
        self._backlog = backlog
        self.sent: list[tuple[str, str, str, list[Row]]] = []  # (user, log, device, rows) of what `fanout` sends
        self.costs: defaultdict[str, int] = defaultdict(int)  # by user: rows that are sent, at most
        self.ranges = sorted(set(self._ranges()), key=lambda r: (r.log, r.first))
        self.rows = sum(wanted.last - wanted.first + 1 for wanted in self.ranges)  # to read, at most
        self.rows += sum(max(0, each.most) for each in self._counted()) // WHOLE_ROW

    def _cursors_of(self, said: Connected) -> Cursors:
        return self._cursors[said.user, said.device]

    def _start(self, said: Connected, log: str) -> tuple[int, str]:
        head = self._heads[log_key(log, said.user)].seq
        cursors = self._cursors_of(said)
        return start_of(said, log=log, head=head, epoch=self._epoch, cursors=cursors, limit=self._backlog)

    def unknown(self, said: Connected) -> dict[str, int]:
        """Return where logs begin for the device of a session that has no cursor in them yet.

        What the session says it has was not acknowledged: it may not be there when the device comes back.
        """
        cursors = self._cursors_of(said)
        return {
            log: min(stored_cursor(cursors, said.device, log), self._heads[log_key(log, said.user)].seq)
            for log in INBOX_LOGS
            if log not in cursors.get(said.device, {})
        }

    def _window(self, user: str, log: str, after: int, limit: int) -> Range | None:
        key = log_key(log, user)
        last = min(self._heads[key].seq, after + limit)
        return Range(key, after + 1, last) if last > after else None

    def _unread(self, said: Connected, log: str) -> Unread:
        key = log_key(log, said.user)
        return Unread(key, self._heads[key], read_mark(self._cursors_of(said), log))

    def _ranges(self) -> Iterable[Range]:
        for _, said in self.asked.connected:
            for log in INBOX_LOGS:
                after, _ = self._start(said, log)
                wanted = self._window(said.user, log, after, self._first(said))
                self._charge(said.user, wanted)
                if wanted:
                    yield wanted
                yield from self._unread(said, log).rows()
        for _, _, sync in self.asked.syncs:
            if found := self._window(sync.user, sync.log, sync.after, sync.limit):
                self._charge(sync.user, found)
                yield found
            else:
                self.costs[sync.user] += 1

    def _first(self, said: Connected) -> int:
        """Return how many entries of a log a session is sent with its opening."""
        return 0 if said.user in self._thrifty else WINDOW

    def _charge(self, user: str, wanted: Range | None) -> None:
        self.costs[user] += wanted.last - wanted.first + 1 if wanted else 0

    def _counted(self) -> set[Unread]:
        return {self._unread(said, log) for _, said in self.asked.connected for log in INBOX_LOGS}

    def looked_at(self, rows: Mapping[Range, list[Row]], now_ms: int) -> list[Range]:
        """Return the ranges whose expiries are needed as well, to say how much is unread."""
        return [found for each in self._counted() if (found := each.looked_at(rows, now_ms))]

    def fanout(self, rows: Mapping[Range, list[Row]], now_ms: int, expiries: Mapping[Range, list[int]]) -> Fanout:
        """Return what goes to the gateways."""
        fanout = Fanout(dict(self.asked.epochs))
        for partition, said in self.asked.connected:
            self._open(fanout, partition, said, rows, now_ms, expiries)
        for partition, gateway, sync in self.asked.syncs:
            head = self._heads[log_key(sync.log, sync.user)].seq
            runs = self._runs(sync.user, sync.log, sync.device, sync.after, sync.limit, rows, now_ms)
            answer = Answer(
                session=sync.session, log=sync.log, after=sync.after, head=head, runs=runs, asked=sync.asked
            )
            fanout.answer(gateway, partition, answer)
        for partition, record in self.asked.announced:
            self._remind(fanout, partition, record)
        return fanout

    def _open(
        self,
        fanout: Fanout,
        partition: int,
        said: Connected,
        rows: Mapping[Range, list[Row]],
        now_ms: int,
        expiries: Mapping[Range, list[int]],
    ) -> None:
        logs: list[LogOpening] = []
        runs: list[Run] = []
        for log in INBOX_LOGS:
            after, notice = self._start(said, log)
            head = self._heads[log_key(log, said.user)]
            count = self._unread(said, log).total(rows, expiries, now_ms)
            logs.append(LogOpening(log=log, after=after, head=head.seq, unread=count, notice=notice))
            if self._first(said):
                runs += self._runs(said.user, log, said.device, after, WINDOW, rows, now_ms)
            elif head.seq > after:
                runs.append(Run(log=log, first=after + 1, last=head.seq, reason=GAP))
        fanout.open(said.gateway, partition, Opening(session=said.session, epoch=self._epoch, logs=logs))
        if runs:
            fanout.deliver(said.gateway, partition, Delivery(user=said.user, sessions=[said.session], runs=runs))

    def _runs(
        self, user: str, log: str, device: str, after: int, limit: int, rows: Mapping[Range, list[Row]], now_ms: int
    ) -> list[Run]:
        wanted = self._window(user, log, after, limit)
        if wanted is None:
            return []
        head = self._heads[wanted.log].seq
        found = rows.get(wanted, [])
        self.sent.append((user, log, device, found))
        return window(found, log=log, device=device, head=head, now_ms=now_ms, limit_bytes=WINDOW_BYTES)

    def _remind(self, fanout: Fanout, partition: int, record: Announce) -> None:
        """Tell sessions that are behind how far their logs go; they ask for what they lack."""
        for said in record.sessions:
            runs = []
            for log, after in said.cursors.items():
                head = self._heads[log_key(log, said.user)].seq if log in INBOX_LOGS else 0
                if head > after:
                    runs.append(Run(log=log, first=after + 1, last=head, reason=GAP))
            if runs:
                fanout.deliver(record.gateway, partition, Delivery(user=said.user, sessions=[said.session], runs=runs))


class Size:
    """How many requests are answered together: few of which each takes much, many of which each takes little."""

    def __init__(self) -> None:
        self.limit = PIECE

    def fitted(self, asked: Asked, planned: Callable[[Asked], Plan]) -> Plan:
        """Return the plan of the first of some requests, as many as make few rows; `limit` says how many they are."""
        plan = planned(asked.piece(0, self.limit))
        while plan.rows > PIECE_ROWS and self.limit > 1:
            self.limit = max(1, min(self.limit, len(asked)) * PIECE_ROWS // plan.rows)
            plan = planned(asked.piece(0, self.limit))
        return plan

    def took(self, read: int) -> None:
        """Take note of how many bytes of rows the last ones took: the next ones are more, or fewer."""
        self.limit = max(1, min(LARGEST_PIECE, self.limit * 2, self.limit * PIECE_BYTES // max(1, read)))
