"""Whatever record a broker takes, every effect that is made of it fits, and what had to be cut says so."""

import json
from types import SimpleNamespace
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from agents.deadletters import DeadLetters
from agents.inbox import InboxAgent, Lane
from agents.statuses import Statuses
from agents.work import Work
from links import unpacking
from links.misfits import Misfit
from links.unpacking import Fetched, Unpacking
from schemas.limits import (
    FRAME_ROOM,
    HEAD_ROOM,
    KEPT_VALUE,
    MAX_ID,
    MAX_VALUE,
    POSITION_HEADER,
    TRUNCATED_HEADER,
    largest_message,
    record_limits,
)
from schemas.rows import Head
from streams.inbox import Appended, anchored, fold
from streams.partitions import home_partition
from streams.producer import Emit
from streams.replay import LeftOut, Source, letter_of, redelivered, redriven
from streams.replay import candidate as candidate_of
from telemetry.worker import WorkerMetrics
from tests.unit.streams.test_replay_rule import asked

TOPIC = "p.notifications.normal"
SOURCE = Source(TOPIC, 2, 1, 4)
TP = TopicPartition(TOPIC, 0)

Headers = list[tuple[str, bytes | None]]

unpacking.install(record_limits)


def batch_of(key: bytes | None, value: bytes | None, headers: Headers) -> bytes:
    builder = BatchBuilder(1 << 27, 0)
    builder.append(timestamp=1_700_000_000_000, key=key, value=value, headers=headers)
    return bytes(builder._build())


def size_of(emit: Emit) -> int:
    value = b"" if emit.key is None and emit.value is None else emit.value
    return len(batch_of(emit.key, value, list(emit.headers)))


def fetched(key: bytes | None, value: bytes | None, headers: Headers) -> Any:
    """Return a record as a worker's consumer hands it on."""
    data = batch_of(key, b"" if key is None and value is None else value, headers)
    (record,) = Unpacking(TP, Fetched(data), [], 0, None, None, True, 0)
    return SimpleNamespace(**{**record.__dict__, "timestamp": record.timestamp / 1000})


def agent() -> InboxAgent:
    found = InboxAgent.__new__(InboxAgent)
    found._lane = Lane(name="normal", topic=TOPIC, number=2, incarnation=1, partitions=4)
    found._log = "inbox/normal"
    found._metrics = WorkerMetrics(CollectorRegistry())
    found._dead_letters = DeadLetters("p.dead-letters", found._metrics)
    found._statuses = Statuses("p.statuses", found._metrics)
    return found


characters = st.characters(exclude_categories=["Cs"])
awkward = st.sampled_from(["\x00", "\x1f", '"', "\\", "/", "\x7f", "\u2028", "é", "漢", "😀"])
text = st.text(awkward | characters, min_size=1, max_size=20)
long_text = st.builds(lambda piece, times: piece * times, text, st.integers(1, 12_000))
ids = st.builds(lambda piece, times: (piece * times)[:256], text, st.integers(1, 256))
names = st.builds(lambda piece, times: piece * times, text, st.sampled_from([1, 5, 5_000]))
header_values = st.none() | st.builds(lambda one, times: one * times, st.binary(max_size=20), st.integers(1, 5_000))
special = st.sampled_from(
    [POSITION_HEADER, TRUNCATED_HEADER, "tocsin-topic", "tocsin-partition", "tocsin-offset", "tocsin-reason"]
)
headers = st.lists(st.tuples(names | special, header_values), max_size=6) | st.builds(
    lambda name, value, times: [(name, value)] * times, names, header_values, st.sampled_from([63, 64, 65, 66, 300])
)


@st.composite
def notifications(draw: st.DrawFn) -> tuple[bytes, bytes]:
    user = draw(ids)
    fields: dict[str, Any] = {"user": user, "title": draw(ids)}
    for name, made in (("body", long_text), ("id", ids | st.integers(0, 10**300)), ("collapse_key", ids)):
        if draw(st.booleans()):
            fields[name] = draw(made)
    if draw(st.booleans()):
        fields["data"] = {draw(text): draw(long_text)}
    value = json.dumps(fields, ensure_ascii=draw(st.booleans())).encode()
    if draw(st.booleans()) and len(value) < MAX_VALUE:
        value += b" " * (MAX_VALUE - len(value))
    return user.encode(), value


rubbish = st.builds(lambda one, times: one * times, st.binary(max_size=20), st.sampled_from([1, 3_000, 50_000]))
records = notifications() | st.tuples(st.none() | rubbish, st.none() | rubbish)


@given(records, headers)
def test_every_effect_of_a_record_fits(record: tuple[bytes | None, bytes | None], given_headers: Headers) -> None:
    message = fetched(*record, given_headers)
    work, inbox = Work(), agent()
    message.partition = 0
    inbox._sort(message, work)
    for emit in work.emits:
        assert size_of(emit) <= largest_message(emit.topic)
        if emit.topic == "p.dead-letters":
            assert emit.spare is not None
            assert size_of(emit.spare) < HEAD_ROOM
            _look_at_letter(emit, message, given_headers)
        else:
            _look_at_moved(emit)
    for one in work.logs.values():
        (incoming,) = one.records
        _, (verdict,) = fold(anchored(1, Head()), (), one.records, "inbox/normal")
        assert isinstance(verdict, Appended)
        assert len(verdict.row.frame) <= MAX_VALUE + FRAME_ROOM
        assert len(verdict.row.key) <= MAX_ID
        json.loads(verdict.row.frame)
        status = inbox._status(incoming, "queued", "unknown_device")
        assert size_of(status) <= largest_message(status.topic) // 4


def _look_at_letter(letter: Emit, message: Any, given_headers: Headers) -> None:
    place = {"partition": 0, "offset": 4, "timestamp": 7}
    said = SimpleNamespace(key=letter.key, value=letter.value, headers=letter.headers, **place)
    where = letter_of(said)
    assert (where.topic, where.partition, where.offset) == (TOPIC, 0, 0)
    back = redriven(said, where, {TOPIC: SOURCE})
    if isinstance(message.value, Misfit):
        assert isinstance(back, LeftOut)
        assert back.reason == "truncated"
        return
    assert isinstance(back, Emit)
    assert (back.key, back.value) == (message.key, message.value)
    assert len(message.value or b"") <= KEPT_VALUE
    mine = [(name, value) for name, value in given_headers if not name.startswith("tocsin-")]
    assert [(n, v) for n, v in back.headers if not n.startswith("tocsin-")] == mine
    again = fetched(back.key, back.value, list(back.headers))
    assert not isinstance(again.value, Misfit)


def _look_at_moved(moved: Emit) -> None:
    """A record that was sent home is not refused there for what it got on the way."""
    assert moved.partition is not None
    home = fetched(moved.key, moved.value, list(moved.headers))
    home.partition = moved.partition
    work = Work()
    agent()._sort(home, work)
    assert not work.emits
    assert len(work.logs) == 1


@given(notifications(), headers)
def test_what_is_redelivered_fits_or_is_left_out(record: tuple[bytes, bytes], given_headers: Headers) -> None:
    message = fetched(*record, given_headers)
    message.timestamp = 1_700_000_000_000
    message.partition = home_partition(message.key, 4)
    found = candidate_of(message, SOURCE, asked(), 1_700_000_000_000)
    if found is None or isinstance(found, LeftOut):
        return
    emit = redelivered("r" * 64, SOURCE, found)
    if isinstance(emit, Emit):
        again = fetched(emit.key, emit.value, list(emit.headers))
        assert not isinstance(again.value, Misfit)
        assert len(emit.value or b"") <= MAX_VALUE
