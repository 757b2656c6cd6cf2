"""The rules of a replay: which records it takes, what is written instead of them, what its run is called. Pure.

A run is named after what was asked for, and what it writes is named after the run, so that doing it again, or going on
after a crash, writes records that the inbox knows already.
"""

from collections.abc import Container, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from schemas.errors import BadRecord
from schemas.ids import position_id
from schemas.limits import MAX_ID, MAX_VALUE, POSITION_HEADER, TRUNCATED_HEADER
from schemas.records import encode
from schemas.replays import REPLAY_ID, Asked
from schemas.rows import Cursor, Row
from streams.inbox import Incoming, incoming
from streams.partitions import home_partition
from streams.producer import Emit, Headers

BATCH: Final = 200  # records between two notes in the journal; below the entries in which a log recognises an id again
_LETTER_HEADERS: Final = ("topic", "partition", "offset", "time", "reason", "error")

# Why a record is left out, in the order of the questions.
LEFT_OUT: Final = {
    "dead_letter": "it cannot be processed and lies in dead-letters",
    "replay": "it is a replay itself",
    "moved": "it was sent on to its home partition and counts there",
    "expired": "its `expires_at` is over",
    "no_entry": "it never became an entry: a repeat, a conflict, or not processed yet",
    "redelivered": "an earlier run has sent it again (--run with a new name sends it once more)",
    "read": "every device of the user has read it (--again takes it all the same)",
    "too_large": "with its new id it is over 64 KiB",
    "settled": "it was redriven or dropped before (--all takes it all the same)",
    "not_a_letter": "its headers do not say where it came from",
    "truncated": "it was cut, so it cannot go back whole",
    "unknown_topic": "it came from a topic that topics.yaml does not have",
    "refused": "Kafka does not take it back; once that is mended, --run with a new name tries it again",
}


class Source(msgspec.Struct, frozen=True):
    """A topic that records are read from: its full name, number, incarnation, and how many partitions it has."""

    topic: str
    number: int
    incarnation: int
    partitions: int


class Candidate(msgspec.Struct, frozen=True):
    """A record that may be redelivered, if it became an entry that is not read."""

    record: Incoming
    partition: int
    headers: Headers
    value: bytes


class LeftOut(msgspec.Struct, frozen=True):
    """A record that was chosen but is not taken; `reason` is one of `LEFT_OUT`.

    `at` is where a dead letter lies that cannot go back, partition:offset, and `why` says more than the reason.
    """

    reason: str
    at: str = ""
    why: str = ""


class Letter(msgspec.Struct, frozen=True):
    """A dead letter with what its headers say; `topic` is empty where they say nothing."""

    topic: str
    partition: int
    offset: int
    ts: int
    reason: str
    error: str


def run_name(asked: Asked) -> str:
    """Return the name of a run: the operation, and a hash of all that was asked for."""
    return f"{asked.operation}-{blake2b(msgspec.json.encode(asked, order='sorted'), digest_size=6).hexdigest()}"


def replay_id(run: str, original: str) -> str:
    """Return the id of a redelivered notification; an original that would make it too long is hashed."""
    found = f"{REPLAY_ID}:{run}:{original}"
    return (
        found if len(found) <= MAX_ID else f"{REPLAY_ID}:{run}:{blake2b(original.encode(), digest_size=16).hexdigest()}"
    )


class _Named(msgspec.Struct):
    id: str | int | None = None


def name_of(value: bytes) -> str:
    """Return the id that a record's value gives, empty if it gives none."""
    try:
        return str(msgspec.json.decode(value, type=_Named).id or "")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def read_record(message: Any, source: Source) -> Incoming:
    """Decode a record as the inbox does. Raises `BadRecord`."""
    moved = dict(message.headers).get(POSITION_HEADER)
    return incoming(
        key=message.key,
        value=message.value,
        ts=message.timestamp,
        place=(source.number, source.incarnation, message.partition, message.offset),
        moved_id=moved.decode("utf-8", "replace") if moved else None,
    )


def chosen(record: Incoming, asked: Asked) -> bool:
    """Say whether the filters take a record."""
    return (
        _fits(record.notification.user, asked.users)
        and _fits(record.notification.kind, asked.kinds)
        and _fits(record.id, asked.keys)
    )


def _fits(value: str, wanted: Sequence[str]) -> bool:
    return not wanted or value in wanted


def candidate(message: Any, source: Source, asked: Asked, now_ms: int) -> Candidate | LeftOut | None:
    """Judge a record by itself; None: the filters do not take it."""
    try:
        record = read_record(message, source)
    except BadRecord:
        user = (message.key or b"").decode("utf-8", "replace")
        return LeftOut("dead_letter") if _fits(user, asked.users) and not (asked.kinds or asked.keys) else None
    if not chosen(record, asked):
        return None
    note = record.notification
    if note.replayed:
        return LeftOut("replay")
    if home_partition(message.key, source.partitions) != message.partition:
        return LeftOut("moved")
    if note.expires_at is not None and note.expires_at.timestamp() * 1000 <= now_ms:
        return LeftOut("expired")
    return Candidate(record, message.partition, tuple(message.headers), message.value)


def is_read(row: Row, log: str, cursors: Sequence[Cursor]) -> bool:
    """Say whether every device that the entry is for has read it; without any device nobody has."""
    marks: dict[str, int] = {cursor.device: 0 for cursor in cursors if row.device in ("", cursor.device)}
    marks |= {cursor.device: cursor.read for cursor in cursors if cursor.log == log and cursor.device in marks}
    return bool(marks) and min(marks.values()) >= row.seq


def redelivered(run: str, source: Source, found: Candidate) -> Emit | LeftOut:
    """Return the record that is written in the place of one: the same content under the run's id."""
    fields = msgspec.json.decode(found.value, type=dict[str, msgspec.Raw])
    fields |= {"id": msgspec.Raw(encode(replay_id(run, found.record.id))), "replayed": msgspec.Raw(b"true")}
    value = encode(fields)
    if len(value) > MAX_VALUE:
        return LeftOut("too_large")
    return Emit(
        topic=source.topic,
        key=found.record.notification.user.encode(),
        value=value,
        headers=tuple((name, text) for name, text in found.headers if name != POSITION_HEADER),
        partition=found.partition,
    )


# -- dead letters ------------------------------------------------------------------------------------------------------


def letter_of(message: Any) -> Letter:
    """Return what the headers of a dead letter say."""
    said = {name.removeprefix("tocsin-"): text for name, text in message.headers if name.startswith("tocsin-")}
    texts = {name: said.get(name, b"").decode("utf-8", "replace") for name in _LETTER_HEADERS}
    numbers = {name: int(text) if (text := texts[name]).isdecimal() else -1 for name in ("partition", "offset", "time")}
    whole = numbers["partition"] >= 0 and numbers["offset"] >= 0
    return Letter(
        topic=texts["topic"] if whole else "",
        partition=numbers["partition"],
        offset=numbers["offset"],
        ts=numbers["time"] if numbers["time"] >= 0 else message.timestamp,  # letters of before have no time
        reason=texts["reason"],
        error=texts["error"],
    )


def user_of(message: Any) -> str:
    """Return whose record a dead letter was, as far as its key says."""
    return (message.key or b"").decode("utf-8", "replace")


def letter_chosen(message: Any, letter: Letter, asked: Asked, prefix: str) -> bool:
    """Say whether the filters take a dead letter; of a topic the name without the prefix is asked for."""
    return (
        _fits(letter.reason, asked.reasons)
        and _fits(letter.topic.removeprefix(prefix), asked.topics)
        and _fits(user_of(message), asked.users)
    )


def redriven(message: Any, letter: Letter, sources: Mapping[str, Source]) -> Emit | LeftOut:
    """Return the record that a dead letter was, for its home partition, under the id that it had.

    `sources` are the topics of the deployment, by full name.
    """
    at = f"{message.partition}:{message.offset}"
    if not letter.topic:
        return LeftOut("not_a_letter", at)
    source = sources.get(letter.topic)
    if source is None:
        return LeftOut("unknown_topic", at, f"it came from {letter.topic}")
    cut = dict(message.headers).get(TRUNCATED_HEADER)
    if cut is not None:
        return LeftOut("truncated", at, f"not whole: {cut.decode('utf-8', 'replace')}")
    kept = [(name, text) for name, text in message.headers if not _is_ours(name, _LETTER_HEADERS)]
    if POSITION_HEADER not in dict(kept):
        id_ = position_id(letter.ts, source.number, letter.partition, letter.offset)
        kept.append((POSITION_HEADER, id_.encode()))
    return Emit(
        topic=source.topic,
        key=message.key,
        value=message.value,
        headers=tuple(kept),
        partition=home_partition(message.key or b"", source.partitions),
    )


def _is_ours(name: str, names: Container[str]) -> bool:
    return name.startswith("tocsin-") and name.removeprefix("tocsin-") in names
