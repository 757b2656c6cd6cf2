"""The rule of an inbox: (state of a log, records of its partition) → (new state, a verdict for each record).

Pure, and a function of what is stored and of the record alone: no clock, no counter of its own. So a record that is
processed twice, by this worker or by another, gets the same verdict and the same seq.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from schemas.errors import BadRecord
from schemas.frames import notification_frame
from schemas.ids import position_id, source
from schemas.records import Notification, decode_notification, encode
from schemas.rows import RECENT, Head, Mark, Row

YEAR_10000: Final = 253_402_300_800_000  # ms since 1970; later times cannot be written as RFC 3339
POSITION_HEADER: Final = "tocsin-id"  # on a record that was sent on to its home partition: the id it had where it lay


class LogState(msgspec.Struct, frozen=True, array_like=True):
    """What of a log is kept beside its rows.

    `prints` holds a fingerprint of 2 bytes (0: no id) for each of the last 256 rows, oldest first: an id whose
    fingerprint is not among them was not used in them, and only for the others the rows themselves are asked.
    """

    epoch: int
    seq: int
    src: int
    n: int
    prints: bytes


class Incoming(msgspec.Struct, frozen=True):
    """A record as the rule sees it; `key` is what recognises a repeat, empty if nothing does."""

    src: int
    ts: int
    id: str
    key: str
    digest: bytes
    notification: Notification


class Appended(msgspec.Struct, frozen=True):
    """The record is a new entry."""

    row: Row


class Known(msgspec.Struct, frozen=True):
    """The record was judged before, at or before the log's head; `seq` is its entry's, if that is among the marks."""

    seq: int | None


class Repeat(msgspec.Struct, frozen=True):
    """The same id with the same content: it is the entry `seq`."""

    seq: int


class Conflict(msgspec.Struct, frozen=True):
    """The same id with other content than the entry `seq`."""

    seq: int


class Expired(msgspec.Struct, frozen=True):
    """The record was past its `expires_at` when Kafka took it."""


Verdict = Appended | Known | Repeat | Conflict | Expired


def incoming(
    *, key: bytes | None, value: bytes | None, ts: int, place: tuple[int, int, int, int], moved_id: str | None
) -> Incoming:
    """Decode and identify a record that lies at `place` = (topic number, incarnation, partition, offset).

    Raises `BadRecord`.
    """
    if not 0 <= ts < YEAR_10000:  # a broker that keeps the producers' times takes any number for one
        raise BadRecord("bad_request", f"the record's time is {ts} ms since 1970")
    notification = decode_notification(key, value)
    topic_number, incarnation, partition, offset = place
    given = "" if notification.id is None else str(notification.id)
    repeat_key = given or moved_id or ""
    return Incoming(
        src=source(incarnation, offset),
        ts=ts,
        id=repeat_key or position_id(ts, topic_number, partition, offset),
        key=repeat_key,
        digest=blake2b(encode(notification), digest_size=8).digest() if repeat_key else b"",
        notification=notification,
    )


def fingerprint(key: str) -> int:
    """Return 2 bytes of a hash of an id, never 0; 0 for no id."""
    if not key:
        return 0
    return int.from_bytes(blake2b(key.encode(), digest_size=2).digest(), "little") or 1


def anchored(epoch: int, head: Head) -> LogState:
    """Return the state of a log as its rows say."""
    prints = b"".join(fingerprint(mark.key).to_bytes(2, "little") for mark in reversed(head.recent))
    return LogState(epoch=epoch, seq=head.seq, src=head.src, n=head.n, prints=prints)


def needs_rows(state: LogState, records: Iterable[Incoming]) -> bool:
    """Say whether the rows have to be read to judge these records: some may have been judged, or an id used, before."""
    prints = memoryview(state.prints).cast("H")
    return any(r.src <= state.src or (r.key and fingerprint(r.key) in prints) for r in records)


class _Fold:
    """The fold of one log while a batch is judged."""

    def __init__(self, state: LogState, marks: Sequence[Mark]) -> None:
        self.seq, self.src, self.n = state.seq, state.src, state.n
        self.prints = bytearray(state.prints)
        self.by_src = {mark.src: mark for mark in marks}
        self.by_key = {mark.key: mark for mark in reversed(marks) if mark.key}

    def judge(self, record: Incoming, log: str) -> Verdict:
        if record.src <= self.src:
            mark = self.by_src.get(record.src)
            if mark is not None:
                return Known(mark.seq)
            return self._refusal(record) or Known(None)
        return self._refusal(record) or self._append(record, log)

    def _refusal(self, record: Incoming) -> Verdict | None:
        expires = record.notification.expires_at
        if expires is not None and _ms(expires.timestamp()) <= record.ts:
            return Expired()
        earlier = self.by_key.get(record.key) if record.key else None
        if earlier is None or earlier.seq <= self.seq - RECENT:
            return None
        return Repeat(earlier.seq) if earlier.digest == record.digest else Conflict(earlier.seq)

    def _append(self, record: Incoming, log: str) -> Appended:
        note = record.notification
        seq, n = self.seq + 1, self.n + (note.device is None)
        row = Row(
            seq=seq,
            src=record.src,
            n=n,
            key=record.key,
            digest=record.digest,
            ts=record.ts,
            expires=_ms(note.expires_at.timestamp()) if note.expires_at else 0,
            device=note.device or "",
            frame=notification_frame(note, log=log, seq=seq, n=n, id_=record.id, ts_ms=record.ts),
        )
        self.seq, self.src, self.n = seq, record.src, n
        self.prints += fingerprint(record.key).to_bytes(2, "little")
        if record.key:
            self.by_key[record.key] = Mark(seq=seq, src=record.src, n=n, key=record.key, digest=record.digest)
        return Appended(row)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def fold(
    state: LogState, marks: Sequence[Mark], records: Iterable[Incoming], log: str
) -> tuple[LogState, list[Verdict]]:
    """Judge the records of one log in their order.

    `log` is the name that clients see. `marks` are the log's last rows, newest first; they may be left out where
    `needs_rows` says no. Returns the new state and one verdict a record.
    """
    work = _Fold(state, marks)
    verdicts = [work.judge(record, log) for record in records]
    prints = bytes(work.prints[-2 * RECENT :])
    return LogState(epoch=state.epoch, seq=work.seq, src=work.src, n=work.n, prints=prints), verdicts
