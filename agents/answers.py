"""What sessions are told of their logs: what was asked for in a batch, and the plan of the answers. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from agents.fanout import Fanout
from schemas.bus import GAP, Answer, Delivery, LogOpening, Opening, Run
from schemas.logs import INBOX_LOGS, log_key
from schemas.records import Announce, Connected, Sync, SyncRequest
from schemas.rows import Head, Range, Row
from streams.connections import Cursors, read_mark, start_of, unread, window

WINDOW: Final = 200  # entries of a log that are sent with the opening, unasked
WINDOW_BYTES: Final = 256 * 1024  # bytes of frames in one answer
PIECE: Final = 32  # requests that are answered together at first
LARGEST_PIECE: Final = 256
PIECE_BYTES: Final = 4 * 1024 * 1024  # bytes of rows that are read for one piece, about
PIECE_ROWS: Final = 512  # rows of a piece that has more than one request: some 50 ms of a worker


class _Asking(msgspec.Struct, frozen=True):
    """One request of a `Sync`, which may carry those of many sessions."""

    gateway: str
    request: SyncRequest


def _order(asked: Connected | _Asking | Announce) -> tuple[int, str]:
    """Return when to answer, lowest first: openings and reminders, which are about every log, then urgent logs.

    Devices of one user stand side by side, since they mostly lack the same rows, which a piece reads once.
    """
    return (INBOX_LOGS.index(asked.request.log), asked.request.user) if isinstance(asked, _Asking) else (0, "")


class Asked:
    """What the sessions of a batch want to know."""

    def __init__(self, epochs: dict[int, int]) -> None:
        self.epochs = epochs
        self._requests: list[tuple[int, Connected | _Asking | Announce]] = []  # partition, request

    def __len__(self) -> int:
        return len(self._requests)

    def sort(self) -> None:
        """Put what is urgent first: a log's live entries wait until what is missing before them has come."""
        self._requests.sort(key=lambda asked: _order(asked[1]))

    def piece(self, first: int, count: int) -> "Asked":
        """Return some of the requests, so that what all of them take need not be in memory at once."""
        piece = Asked(self.epochs)
        piece._requests = self._requests[first : first + count]
        return piece

    def add(self, partition: int, record: Any) -> bool:
        """Take note of a record that wants an answer; False: it wants none."""
        match record:
            case Connected() | Announce():
                self._requests.append((partition, record))
            case Sync(gateway=gateway, syncs=syncs):
                self._requests += [(partition, _Asking(gateway, sync)) for sync in syncs if sync.log in INBOX_LOGS]
            case _:
                return False
        return True

    @property
    def connected(self) -> list[tuple[int, Connected]]:
        """The sessions that opened, by partition."""
        return [(partition, asked) for partition, asked in self._requests if isinstance(asked, Connected)]

    @property
    def syncs(self) -> list[tuple[int, str, SyncRequest]]:
        """The ranges asked for: partition, gateway, request."""
        return [(partition, a.gateway, a.request) for partition, a in self._requests if isinstance(a, _Asking)]

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
    """Where every session starts, and which rows that takes."""

    def __init__(
        self, asked: Asked, heads: Mapping[str, Head], cursors: Mapping[str, Cursors], epoch: str, backlog: int
    ) -> None:
        self._asked = asked
        self._heads = heads
        self._cursors = cursors
        self._epoch = epoch
        self._backlog = backlog
        self.sent: list[tuple[str, str, str, list[Row]]] = []  # (user, log, device, rows) of what `fanout` sends
        self.ranges = sorted(set(self._ranges()), key=lambda r: (r.log, r.first))
        self.rows = sum(wanted.last - wanted.first + 1 for wanted in self.ranges)  # to read, at most

    def _start(self, said: Connected, log: str) -> tuple[int, str]:
        head = self._heads[log_key(log, said.user)].seq
        cursors = self._cursors[said.user]
        return start_of(said, log=log, head=head, epoch=self._epoch, cursors=cursors, limit=self._backlog)

    def _window(self, user: str, log: str, after: int, limit: int) -> Range | None:
        key = log_key(log, user)
        last = min(self._heads[key].seq, after + limit)
        return Range(key, after + 1, last) if last > after else None

    def _read_mark(self, said: Connected, log: str) -> Range | None:
        """Return the row whose count tells how much is unread, if a row is needed for that."""
        key = log_key(log, said.user)
        read = read_mark(self._cursors[said.user], log)
        return Range(key, read, read) if 0 < read < self._heads[key].seq else None

    def _ranges(self) -> Iterable[Range]:
        for _, said in self._asked.connected:
            for log in INBOX_LOGS:
                after, _ = self._start(said, log)
                yield from filter(None, (self._window(said.user, log, after, WINDOW), self._read_mark(said, log)))
        for _, _, sync in self._asked.syncs:
            if found := self._window(sync.user, sync.log, sync.after, sync.limit):
                yield found

    def fanout(self, rows: Mapping[Range, list[Row]], now_ms: int) -> Fanout:
        """Return what goes to the gateways."""
        fanout = Fanout(self._asked.epochs)
        for partition, said in self._asked.connected:
            self._open(fanout, partition, said, rows, now_ms)
        for partition, gateway, sync in self._asked.syncs:
            head = self._heads[log_key(sync.log, sync.user)].seq
            runs = self._runs(sync.user, sync.log, sync.device, sync.after, sync.limit, rows, now_ms)
            answer = Answer(
                session=sync.session, log=sync.log, after=sync.after, head=head, runs=runs, asked=sync.asked
            )
            fanout.answer(gateway, partition, answer)
        for partition, record in self._asked.announced:
            self._remind(fanout, partition, record)
        return fanout

    def _open(
        self, fanout: Fanout, partition: int, said: Connected, rows: Mapping[Range, list[Row]], now_ms: int
    ) -> None:
        logs: list[LogOpening] = []
        runs: list[Run] = []
        for log in INBOX_LOGS:
            after, notice = self._start(said, log)
            head = self._heads[log_key(log, said.user)]
            mark = self._read_mark(said, log)
            found = rows.get(mark, []) if mark else []
            count = unread(head, read_mark(self._cursors[said.user], log), found[0].n if found else None)
            logs.append(LogOpening(log=log, after=after, head=head.seq, unread=count, notice=notice))
            runs += self._runs(said.user, log, said.device, after, WINDOW, rows, now_ms)
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


class Pieces:
    """Cuts what was asked into plans that are small in rows and bytes; `planned` makes the plan of some requests.

    Between two of them whatever else the worker has to do gets its turn, and no more than one is in memory.
    """

    def __init__(self, asked: Asked, planned: Callable[[Asked], Plan]) -> None:
        self._asked = asked
        self._planned = planned
        self._first = 0
        self._size = PIECE

    def next(self) -> Plan | None:
        """Return the next plan; None: all was asked for."""
        if self._first >= len(self._asked):
            return None
        plan = self._planned(self._asked.piece(self._first, self._size))
        while plan.rows > PIECE_ROWS and self._size > 1:
            self._size = max(1, self._size * PIECE_ROWS // plan.rows)
            plan = self._planned(self._asked.piece(self._first, self._size))
        self._first += self._size
        return plan

    def took(self, read: int) -> None:
        """Take note of how many bytes of rows the last one took: the next one has more requests, or fewer."""
        self._size = max(1, min(LARGEST_PIECE, self._size * 2, self._size * PIECE_BYTES // max(1, read)))
