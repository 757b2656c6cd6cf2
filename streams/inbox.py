"""The rule of an inbox: (state of a log, records of its partition) → (new state, a verdict for each record).

Pure, and a function of what is stored and of the record alone: no clock, no counter of its own. So a record that is
processed twice, by this worker or by another, gets the same verdict and the same seq.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final
from zlib import crc32

import msgspec

from schemas.content import digest
from schemas.errors import BadRecord
from schemas.frames import notification_frame
from schemas.ids import position_id, source
from schemas.limits import MAX_ID, POSITION_HEADER
from schemas.records import Notification, decode_notification
from schemas.rows import RECENT, Head, Mark, Row
from streams.limits import RATE_LIMITED, Limit

YEAR_10000: Final = 253_402_300_800_000  # ms since 1970; later times cannot be written as RFC 3339
_NO_ID: Final = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")  # control characters, and what was not UTF-8
LONG_AGO: Final = 1  # ms since 1970; what nobody is shown has expired, for workers of before there were limits


class LogState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What of a log is kept beside its rows.

    `prints` holds a fingerprint of 2 bytes (0: no id) for each of the last 256 rows, oldest first: an id whose
    fingerprint is not among them was not used in them, and only for the others the rows themselves are asked.
    """

    epoch: int
    seq: int
    src: int
    n: int
    prints: bytes
    tat: int = 0  # the log's rate clock, µs since 1970
    expiring: int = 0
    latest: int = 0

    def head(self) -> Head:
        """Return what the store has of the log's end, without marks."""
        return Head(self.seq, self.src, self.n, (), self.expiring, self.latest)


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """A record as the rule sees it; `key` is what recognises a repeat, empty if nothing does, `print` its hash."""

    src: int
    ts: int
    id: str
    key: str
    print: bytes
    digest: bytes
    notification: Notification


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The record is a new entry."""

    row: Row


class Limited(msgspec.Struct, frozen=True, gc=False):
    """The record is over its log's limit: a row that says so keeps its place, and no device is sent it."""

    row: Row


class Known(msgspec.Struct, frozen=True, gc=False):
    """The record was judged before, at or before the log's head; `mark` is its row's, if that is among the marks."""

    mark: Mark | None


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """The same id with the same content: it is the entry `seq`."""

    seq: int


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """The same id with other content than the entry `seq`."""

    seq: int


class Expired(msgspec.Struct, frozen=True, gc=False):
    """The record was past its `expires_at` when Kafka took it."""


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The rule itself raised an exception: a fault of ours, and the record is innocent until looked at."""

    error: str


Verdict = Appended | Limited | Known | Repeat | Conflict | Expired | Failed


def incoming(
    *, key: bytes | None, value: bytes | None, ts: int, place: tuple[int, int, int, int], moved_id: str | None
) -> Incoming:
    """Decode and identify a record that lies at `place` = (topic number, incarnation, partition, offset).

    Raises `BadRecord`.
    """
    if not 0 <= ts < YEAR_10000:  # a broker that keeps the producers' times takes any number for one
        raise BadRecord("bad_request", f"the record's time is {ts} ms since 1970")
    notification = decode_notification(key, value)
    if moved_id and notification.id is None and (len(moved_id) > MAX_ID or _NO_ID.search(moved_id)):
        raise BadRecord("bad_request", f"the header {POSITION_HEADER} is not an id of at most {MAX_ID} characters")
    topic_number, incarnation, partition, offset = place
    given = "" if notification.id is None else str(notification.id)
    repeat_key = given or moved_id or ""
    return Incoming(
        src=source(incarnation, offset),
        ts=ts,
        id=repeat_key or position_id(ts, topic_number, partition, offset),
        key=repeat_key,
        print=fingerprint(repeat_key),
        digest=digest(notification) if repeat_key else b"",
        notification=notification,
    )


def fingerprint(key: str) -> bytes:
    """Return 2 bytes of a hash of an id, never zeros; zeros for no id."""
    if not key:
        return b"\0\0"
    return (crc32(key.encode()) & 0xFFFF or 1).to_bytes(2, "little")


def _printed(prints: bytes, wanted: bytes) -> bool:
    """Say whether a fingerprint is among some."""
    at = prints.find(wanted)
    while at % 2:  # the end of one and the beginning of the next; -1, not found, is odd as well
        if at < 0:
            return False
        at = prints.find(wanted, at + 1)
    return True


def anchored(epoch: int, head: Head) -> LogState:
    """Return the state of a log as its rows say."""
    prints = b"".join(fingerprint(mark.key) for mark in reversed(head.recent))
    tat = head.recent[0].tat if head.recent else 0
    return LogState(epoch, head.seq, head.src, head.n, prints, tat, head.expiring, head.latest)


def needs_rows(state: LogState, records: Iterable[Incoming]) -> bool:
    """Say whether the rows have to be read to judge these records: some may have been judged, or an id used, before."""
    for record in records:  # noqa: SIM110 - a generator costs more than the question
        if record.src <= state.src or (record.key and _printed(state.prints, record.print)):
            return True
    return False


class _Fold:
    """The fold of one log while a batch is judged."""

    def __init__(self, state: LogState, marks: Sequence[Mark], limit: Limit | None) -> None:
        self.seq, self.src, self.n, self.tat = state.seq, state.src, state.n, state.tat
        self.expiring, self.latest = state.expiring, state.latest
        self.limit = limit
        self.prints: list[bytes] = []  # of rows that are new
        self.by_src = {mark.src: mark for mark in marks} if marks else {}
        self.by_key: dict[str, Mark | Row] = {mark.key: mark for mark in reversed(marks) if mark.key} if marks else {}

    def judge(self, record: Incoming, log: str) -> Verdict:
        try:
            if record.src > self.src:
                return self._refusal(record) or self._append(record, log)
            return self._judged(record, log)
        except Exception as exc:  # noqa: BLE001  # one record must not stop its partition
            return Failed(f"{type(exc).__name__}: {exc}")

    def _judged(self, record: Incoming, log: str) -> Verdict:
        """Judge a record again."""
        if mark := self.by_src.get(record.src):
            return Known(mark)
        if refusal := self._refusal(record):
            return refusal
        self._row(record, log)  # it has no row: if that is because no row could be made of it, say so again
        return Known(None)

    def _refusal(self, record: Incoming) -> Verdict | None:
        earlier = self.by_key.get(record.key) if record.key else None
        if earlier is not None and earlier.seq > self.seq - RECENT and earlier.src < record.src:
            return Repeat(earlier.seq) if earlier.digest == record.digest else Conflict(earlier.seq)
        expires = record.notification.expires_at
        if expires is not None and _ms(expires.timestamp()) <= record.ts:
            return Expired()
        return None

    def _append(self, record: Incoming, log: str) -> Appended | Limited:
        row = self._row(record, log)
        self.seq, self.src, self.n, self.tat = row.seq, record.src, row.n, row.tat
        self.expiring, self.latest = row.expiring, row.latest
        self.prints.append(record.print)
        if record.key:
            self.by_key[record.key] = row
        return Limited(row) if row.skip else Appended(row)

    def _row(self, record: Incoming, log: str) -> Row:
        note = record.notification
        tat = self.limit.admit(self.tat, record.ts) if self.limit else self.tat
        shown = tat is not None
        counts = shown and note.device is None
        seq, n = self.seq + 1, self.n + counts
        expires = (_ms(note.expires_at.timestamp()) if note.expires_at else 0) if shown else LONG_AGO
        expiring = counts and expires > 0
        return Row(
            seq=seq,
            src=record.src,
            n=n,
            key=record.key,
            digest=record.digest,
            ts=record.ts,
            expires=expires,
            device=note.device or "",
            frame=notification_frame(note, log=log, seq=seq, n=n, id_=record.id, ts_ms=record.ts) if shown else b"",
            skip="" if shown else RATE_LIMITED,
            tat=self.tat if tat is None else tat,
            expiring=self.expiring + expiring,
            latest=max(self.latest, expires) if expiring else self.latest,
        )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def fold(
    state: LogState, marks: Sequence[Mark], records: Iterable[Incoming], log: str, limit: Limit | None = None
) -> tuple[LogState, list[Verdict]]:
    """Judge the records of one log in their order.

    `log` is the name that clients see, `limit` what it takes in a time. `marks` are the log's last rows, newest first;
    they may be left out where `needs_rows` says no. Returns the new state and one verdict a record.
    """
    work = _Fold(state, marks, limit)
    verdicts = [work.judge(record, log) for record in records]
    prints = b"".join((state.prints, *work.prints))[-2 * RECENT :]
    after = LogState(state.epoch, work.seq, work.src, work.n, prints, work.tat, work.expiring, work.latest)
    return after, verdicts
