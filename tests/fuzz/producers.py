"""What producers and gateways write to Kafka, and what operators revoke."""

import json
import random
import zlib
from typing import Any, Final, cast

import msgspec
from prometheus_client import CollectorRegistry

from agents.cursors import CursorWriter
from agents.deadletters import DeadLetters
from gateway.auth import Claims
from gateway.revocations import Revocations
from schemas import bus
from schemas.bus import Answer, Packed, Part
from schemas.errors import BadRecord
from schemas.frames import NotificationFrame
from schemas.records import (
    REASONS,
    Sync,
    decode_acks,
    decode_connection,
    decode_notification,
    decode_revocation,
    sifted_acks,
    sifted_connection,
)
from streams.inbox import Appended, LogState, fold, incoming
from streams.limits import Limit
from telemetry.worker import WorkerMetrics
from tests.fuzz.inputs import grown_object, value, written
from tests.fuzz.target import NOW, Target

_letters = DeadLetters("dead-letters", WorkerMetrics(CollectorRegistry()))


class _Message:
    def __init__(self, key: bytes | None, value: bytes) -> None:
        self.key, self.value, self.headers = key, value, [("h", None)]
        self.topic, self.partition, self.offset, self.timestamp = "t", 0, 1, NOW


def _key_of(data: bytes) -> bytes | None:
    """Return the user that a producer would have taken for the key, so that more than the key is looked at."""
    try:
        user = json.loads(data)["user"]
        return user.encode() if isinstance(user, str) else b"u1"
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None if len(data) % 7 == 0 else b"u1"


def notification(data: bytes) -> None:
    """A record of a lane, from its bytes to the rows that the store is handed and the frames that devices are sent."""
    key = _key_of(data)
    moved = data[-40:].decode("utf-8", "replace") if len(data) % 3 == 0 else None
    place = (2, 1, 0, zlib.crc32(data))
    try:
        record = incoming(key=key, value=data, ts=int(NOW * 1000), place=place, moved_id=moved)
    except BadRecord as exc:
        assert exc.code in REASONS  # noqa: PT017 - it is looked at and raised again
        _letters.letter(_Message(key, data), exc.code, str(exc))
        raise
    state, verdicts = fold(LogState(1, 0, 0, 0, b""), (), [record, record], "inbox/normal", Limit(1, 1))
    msgspec.msgpack.encode(state)
    assert len(verdicts) == 2
    for verdict in verdicts:
        if isinstance(verdict, Appended):
            msgspec.json.decode(verdict.row.frame, type=NotificationFrame)
            assert abs(verdict.row.expires) < 2**63
    assert decode_notification(key, data) == record.notification


def _grown_notification(rng: random.Random) -> bytes:
    fields = ("id", "kind", "title", "body", "data", "device", "expires_at", "collapse_key", "channels", "v")
    found = {name: value(rng) for name in rng.sample(fields, rng.randrange(5))}
    return written({"user": rng.choice(("u1", "é", "x" * 256)), "title": "t", **found})


NOTE: Final = b"""{"id": "order-42", "user": "u1", "kind": "order.paid", "title": "Paid", "body": "Order 42",
"data": {"order": 42}, "device": "phone", "expires_at": "2030-01-01T00:00:00Z", "collapse_key": "k", "channels": ["a"],
"v": 1}"""
NOTES: Final = (NOTE, b'{"user":"u1","title":"t"}', b'{"user":"u1","id":7,"data":{"a":[1,{"b":null}]}}')


CONTROLS: Final = (
    b'{"type":"connected","user":"u1","session":"s","gateway":"g","device":"d","epoch":"e","cursors":{"inbox/normal":1}}',
    b'{"type":"disconnected","user":"u1","session":"s","gateway":"g"}',
    b'{"type":"sync","gateway":"g","syncs":[["u1","s","d","inbox/normal",5,500,true]],"v":1}',
    b'{"type":"announce","gateway":"g","partition":1,"epoch":7,"sessions":[["u1","s","d","ws",{"inbox/normal":3}]],"v":1}',
)


def connection(data: bytes) -> None:
    """A record of `connections`, from its bytes to the answer that the worker packs for the bus."""
    found = sifted_connection(data)
    record = found.record
    if not found.wrong:
        assert record == decode_connection(data)
    if isinstance(record, Sync):
        for sync in record.syncs:
            answer(sync.session, sync.log, sync.after, sync.limit)


ACKS: Final = (
    b'{"type":"acks","gateway":"g","acks":[["u1","d","inbox/normal",5,4],["u1","","inbox/bulk",5,4]],"v":1}',
)


def acks(data: bytes) -> None:
    """A record of `acks`, from its bytes to the cursors that go to the store."""
    found = sifted_acks(data)
    if not found.wrong:
        assert found.record == decode_acks(data)
    writer = CursorWriter(cast("Any", None))
    wrong = writer.add(found.record.acks)
    assert writer.waiting() + len(wrong) <= len(found.record.acks)


def answer(session: str, log: str, after: int, limit: int) -> bytes:
    """Return what a worker says to a request for a page: its numbers have to fit into the bus and into the stores."""
    assert after + limit < 2**63
    part = Part(0, 1, answers=[Answer(session, log, after, 0, [], asked=True)])
    return bus.encode(Packed(stream="w", number=1, parts=[part]))


def _grown_control(rng: random.Random) -> bytes:
    fields = ("user", "session", "gateway", "device", "epoch", "cursors", "acks", "syncs", "sessions", "partition", "v")
    return grown_object(rng, ("connected", "disconnected", "acks", "sync", "announce"), fields)


def revocation(data: bytes) -> None:
    """A record of `revocations`, taken and asked."""
    revocations = Revocations()
    revocations.take(decode_revocation(data), NOW)
    revocations.refuses(Claims("u1", None, 1.0))
    revocations.forget(NOW)


TARGETS: Final = (
    Target("notification", notification, NOTES, (BadRecord,), _grown_notification, 6),
    Target("connection", connection, CONTROLS, (BadRecord,), _grown_control, 4),
    Target("acks", acks, ACKS, (BadRecord,), _grown_control),
    Target("revocation", revocation, (b'{"at":1,"until":2,"user":"u1"}',), (BadRecord,)),
)
