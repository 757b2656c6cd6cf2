"""The rules of a replay: however often and wherever it is broken off, the logs end as after one run."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import position_id
from schemas.limits import MAX_ID, MAX_VALUE
from schemas.replays import Asked, Letter, Marks, Run, Span
from schemas.rows import Cursor, Head, Row
from streams.inbox import Appended, anchored, fold
from streams.producer import Emit
from streams.replay import (
    Candidate,
    LeftOut,
    Source,
    candidate,
    chosen,
    is_read,
    letter_chosen,
    letter_of,
    name_of,
    read_record,
    redelivered,
    redriven,
    replay_id,
    run_name,
)
from streams.replay_journal import (
    UnknownRun,
    advanced,
    begun,
    busy,
    ended,
    journal_of,
    latest_first,
    left,
    marks_record,
    run_record,
    taken_up,
    unsure,
)

TOPIC = "p.notifications.normal"
SOURCE = Source(TOPIC, 2, 1, 1)
NOW = 1_700_000_000_000


@dataclass
class Message:
    """A record as it lies in Kafka."""

    value: bytes
    offset: int = 0
    key: bytes | None = b"u1"
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = 0
    timestamp: int = NOW
    topic: str = TOPIC


def message(offset: int = 0, *, headers: tuple[tuple[str, bytes], ...] = (), ts: int = NOW, **fields: Any) -> Message:
    return Message(json.dumps({"user": "u1", "title": "t", **fields}).encode(), offset, headers=headers, timestamp=ts)


def asked(**fields: Any) -> Asked:
    return Asked(**{"operation": "redeliver", "spans": [Span("notifications.normal", 0, 0, 10)], **fields})


def judged(record: Message, **fields: Any) -> Any:
    return candidate(record, SOURCE, asked(**fields), NOW)


# -- what is taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Message(b"{"), "dead_letter"),
        (message(replayed=True), "replay"),
        (message(expires_at="2020-01-01T00:00:00Z"), "expired"),
    ],
)
def test_some_records_are_left_out_by_themselves(record: Message, reason: str) -> None:
    assert judged(record) == LeftOut(reason)


def test_a_record_outside_its_home_partition_is_left_out() -> None:
    other = Source(TOPIC, 2, 1, 64)
    assert candidate(message(), other, asked(), NOW) == LeftOut("moved")


def test_the_filters_choose_by_user_kind_and_id() -> None:
    record = message(id=7, kind="k")
    assert isinstance(judged(record), Candidate)
    assert isinstance(judged(record, users=["u1"], kinds=["k", "l"], keys=["7"]), Candidate)
    for other in ({"users": ["u2"]}, {"kinds": ["l"]}, {"keys": ["8"]}):
        assert judged(record, **other) is None
    assert judged(Message(b"{"), users=["u2"]) is None
    assert judged(Message(b"{"), keys=["7"]) is None


def test_a_record_without_an_id_is_chosen_by_the_one_from_its_position() -> None:
    id_ = position_id(NOW, 2, 0, 5)
    assert chosen(read_record(message(5), SOURCE), asked(keys=[id_]))


def row(seq: int, device: str = "") -> Row:
    return Row(seq, seq, seq, "", b"", NOW, 0, device, b"")


def cursor(device: str, read: int, log: str = "inbox/normal") -> Cursor:
    return Cursor("u1", log, device, 99, read)


@pytest.mark.parametrize(
    ("cursors", "device", "read"),
    [
        ([], "", False),
        ([cursor("a", 5)], "", True),
        ([cursor("a", 4)], "", False),
        ([cursor("a", 5), cursor("b", 4)], "", False),
        ([cursor("a", 5), cursor("b", 9, "inbox/bulk")], "", False),  # b has read nothing of this log
        ([cursor("a", 5), cursor("b", 4)], "a", True),
        ([cursor("b", 9)], "a", False),
    ],
)
def test_an_entry_is_read_once_every_device_it_is_for_has_read_it(
    cursors: list[Cursor], device: str, read: bool
) -> None:
    assert is_read(row(5, device), "inbox/normal", cursors) is read


# -- what is written ---------------------------------------------------------------------------------------------------


def test_what_is_written_has_the_same_content_and_headers_under_the_runs_id() -> None:
    record = message(3, headers=(("trace", b"1"), ("tocsin-id", b"first")), data={"a": [1.50]}, foreign="kept")
    emit = redelivered("r", SOURCE, judged(record))
    assert isinstance(emit, Emit)
    assert (emit.topic, emit.key, emit.partition, emit.headers) == (TOPIC, b"u1", 0, (("trace", b"1"),))
    assert json.loads(emit.value or b"") == {
        **json.loads(record.value),
        "id": "replay:r:first",
        "replayed": True,
    }
    assert b"1.5" in (emit.value or b"")
    assert name_of(emit.value or b"") == "replay:r:first"


def test_what_would_be_too_large_with_its_new_id_is_left_out() -> None:
    record = message(id="i", body="x" * (MAX_VALUE - 60))
    assert isinstance(judged(record), Candidate)
    assert redelivered("r" * 64, SOURCE, judged(record)) == LeftOut("too_large")


@given(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True), st.text(min_size=1, max_size=256))
def test_an_id_of_a_replay_is_never_too_long(run: str, original: str) -> None:
    found = replay_id(run, original)
    assert len(found) <= MAX_ID
    assert found.startswith(f"replay:{run}:")


def test_a_run_is_named_after_all_that_it_was_asked_for() -> None:
    names = {
        run_name(asked(**other))
        for other in ({}, {"users": ["u"]}, {"kinds": ["u"]}, {"limit": 1}, {"again": True}, {"operation": "rebuild"})
    }
    assert len(names) == 6
    assert run_name(asked()) == run_name(asked())
    assert run_name(asked()).startswith("redeliver-")


@pytest.mark.parametrize("value", [b"", b"[]", b"\xff", b'{"id": {}}', b'{"id": null}', b"{}"])
def test_a_value_without_an_id_has_no_name(value: bytes) -> None:
    assert name_of(value) == ""


# -- a broken run ------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A partition, the journal, and a crash that waits for its turn."""

    records: list[Message]
    notes: list[Run] = field(default_factory=list)
    crash_after: list[int] = field(default_factory=list)  # writes after which the process dies, counted together
    writes: int = 0

    def write(self) -> None:
        self.writes += 1
        if self.writes in self.crash_after:
            raise InterruptedError

    def produce(self, emits: list[Emit]) -> None:
        self.records += [Message(e.value or b"", len(self.records) + n, e.key, e.headers) for n, e in enumerate(emits)]
        self.write()

    def note(self, run: Run) -> None:
        self.notes.append(run)
        self.write()

    def log(self) -> list[str]:
        """The keys of the log's rows, as the inbox makes them."""
        _, verdicts = fold(anchored(1, Head()), (), [read_record(m, SOURCE) for m in self.records], "inbox/normal")
        return [verdict.row.key for verdict in verdicts if isinstance(verdict, Appended)]


def carry_out(world: World, wanted: Asked, batch: int) -> None:
    """What the command does, without servers."""
    last = world.notes[-1] if world.notes else None
    if last and last.event == "finished":
        return
    run = last or begun("r", wanted, who="a@b", pid=1, now_ms=NOW)
    world.note(taken_up(run, who="a@b", pid=1, now_ms=NOW) if last else run)
    span = wanted.spans[0]
    while run.next[0] < span.last:
        first = run.next[0]
        page = world.records[first : min(first + batch, span.last)]
        found = [candidate(m, SOURCE, wanted, NOW) for m in page]
        emits = [e for c in found if isinstance(c, Candidate) and isinstance(e := redelivered("r", SOURCE, c), Emit)]
        if emits:
            world.produce(emits)
        run = advanced(run, 0, first + len(page), {"taken": len(emits)}, NOW, len(world.records))
        world.note(run)
    world.note(ended(run, finished=True, now_ms=NOW))


@given(
    ids=st.lists(st.sampled_from([None, *"abcdefgh"]), max_size=40),
    crashes=st.lists(st.integers(1, 30), max_size=6),
    batch=st.integers(1, 12),
)
def test_a_run_that_crashes_anywhere_and_goes_on_leaves_the_log_of_one_run(
    ids: list[str | None], crashes: list[int], batch: int
) -> None:
    records = [message(n, id=id_) for n, id_ in enumerate(ids)]
    wanted = asked(spans=[Span("notifications.normal", 0, 0, len(ids))])
    straight, broken = World(list(records)), World(list(records), crash_after=sorted(crashes))
    carry_out(straight, wanted, batch)
    for _ in range(len(crashes) + 1):
        try:
            carry_out(broken, wanted, batch)
        except InterruptedError:
            continue
    assert broken.log() == straight.log()
    assert broken.notes[-1].event == "finished"
    before = list(broken.records)
    carry_out(broken, wanted, batch)
    assert broken.records == before


# -- dead letters ------------------------------------------------------------------------------------------------------


def a_letter(headers: dict[str, str] | None = None, value: bytes = b"v", key: bytes | None = b"u1") -> Message:
    said = {"topic": TOPIC, "partition": "3", "offset": "17", "time": "1500", "reason": "rule_failed", "error": "e"}
    names = {f"tocsin-{name}": text for name, text in (said | (headers or {})).items()}
    return Message(value, 4, key, (("trace", b"1"), *((name, text.encode()) for name, text in names.items())))


def test_a_letter_goes_back_to_its_home_under_the_id_of_its_first_position() -> None:
    found = redriven(a_letter(), letter_of(a_letter()), {TOPIC: Source(TOPIC, 2, 1, 4)})
    assert isinstance(found, Emit)
    assert (found.topic, found.key, found.value) == (TOPIC, b"u1", b"v")
    assert found.headers == (("trace", b"1"), ("tocsin-id", position_id(1500, 2, 3, 17).encode()))
    assert found.partition is not None
    assert 0 <= found.partition < 4


def test_a_letter_that_had_an_id_keeps_it() -> None:
    letter = a_letter({"id": "first"})
    found = redriven(letter, letter_of(letter), {TOPIC: SOURCE})
    assert isinstance(found, Emit)
    assert dict(found.headers)["tocsin-id"] == b"first"


def test_letters_of_unknown_origin_are_left_out() -> None:
    plain = Message(b"v", 4)
    assert redriven(plain, letter_of(plain), {TOPIC: SOURCE}) == LeftOut("not_a_letter", "0:4")
    odd = a_letter({"offset": "x"})
    assert redriven(odd, letter_of(odd), {TOPIC: SOURCE}) == LeftOut("not_a_letter", "0:4")
    assert redriven(a_letter(), letter_of(a_letter()), {}) == LeftOut("unknown_topic", "0:4", f"it came from {TOPIC}")


def test_a_letter_that_was_cut_does_not_go_back() -> None:
    cut = a_letter({"truncated": "value=20971520"})
    assert redriven(cut, letter_of(cut), {TOPIC: SOURCE}) == LeftOut("truncated", "0:4", "not whole: value=20971520")


def test_a_letter_without_a_time_has_an_id_that_does_not_change() -> None:
    old = Message(b"v", 4, b"u1", tuple(pair for pair in a_letter().headers if pair[0] != "tocsin-time"))
    first, second = (redriven(old, letter_of(old), {TOPIC: SOURCE}) for _ in range(2))
    assert first == second
    assert isinstance(first, Emit)
    assert dict(first.headers)["tocsin-id"] == position_id(NOW, 2, 3, 17).encode()


def test_letters_are_chosen_by_reason_topic_and_user() -> None:
    letter = a_letter()
    found = letter_of(letter)
    fits = {"reasons": ["rule_failed"], "topics": ["notifications.normal"], "users": ["u1"]}
    assert letter_chosen(letter, found, asked(operation="redrive", **fits), "p.")
    for name in fits:
        assert not letter_chosen(letter, found, asked(operation="redrive", **{name: ["other"]}), "p.")


# -- the journal -------------------------------------------------------------------------------------------------------


def run(**fields: Any) -> Run:
    spans = [Span("notifications.normal", 0, 5, 10), Span("notifications.normal", 1, 0, 4)]
    found = begun("r", asked(spans=spans), who="ops@here", pid=7, now_ms=NOW)
    return Run(**{name: getattr(found, name) for name in Run.__struct_fields__} | fields)


def test_the_journal_has_the_last_word_of_each_key() -> None:
    first, second = run(), run(run="s", at=NOW + 1)
    letters = [Letter(0, 4, NOW)]
    marks = Marks(run="r", outcome="dropped", letters=letters)
    records = [run_record("t", first), run_record("t", second), marks_record("t", marks)]
    journal = journal_of({r.key: r.value for r in records} | {b"x": b"{", None: b"{}", b"gone": None, b"y/1": b"[]"})
    assert journal.runs == {"r": first, "s": second}
    assert journal.settled == {letters[0]: marks}
    assert [found.run for found in latest_first(journal.runs)] == ["s", "r"]
    assert journal.run("r") == first
    with pytest.raises(UnknownRun, match="no run redriv; did you mean redrive-1"):
        journal_of({b"redrive-1": run_record("t", run(run="redrive-1")).value}).run("redriv")


def test_a_run_counts_what_it_has_done_and_what_is_left() -> None:
    after = advanced(run(), 0, 8, {"taken": 2, "read": 1}, NOW + 1, 30)
    assert (after.next, after.counts, after.tails, left(after)) == ([8, 0], {"read": 1, "taken": 2}, {0: 30}, 6)
    after = advanced(after, 0, 10, {"taken": 1}, NOW + 2)
    assert (after.counts, after.tails) == ({"read": 1, "taken": 3}, {0: 30})
    assert left(ended(after, finished=True, now_ms=NOW)) == 0
    assert ended(after, finished=False, now_ms=NOW).event == "stopped"


def test_only_the_first_span_with_something_left_may_hold_what_was_not_noted() -> None:
    assert unsure(run()) == (0, 10)
    assert unsure(run(next=[7, 0], tails={0: 30})) == (0, 30)
    assert unsure(run(next=[10, 1])) == (1, 4)
    assert unsure(run(next=[10, 4])) is None


@pytest.mark.parametrize(
    ("event", "who", "alive", "later", "expected"),
    [
        ("progress", "me@here", [7], 0, True),
        ("progress", "me@here", [], 0, False),
        ("progress", "me@there", [7], 29_000, True),
        ("progress", "me@there", [7], 31_000, False),
        ("stopped", "me@there", [7], 0, False),
        ("finished", "me@here", [7], 0, False),
    ],
)
def test_a_run_is_busy_while_its_process_lives_or_speaks(
    event: str, who: str, alive: list[int], later: int, expected: bool
) -> None:
    assert busy(run(event=event), who=who, alive=alive, now_ms=NOW + later) is expected
