"""The rule of an inbox: dense seqs, repeats, conflicts, expiry; the same verdict however often a record is judged."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streams.inbox
from schemas.errors import BadRecord
from schemas.frames import notification_frame
from schemas.rows import RECENT, Head, Mark, Row
from streams.inbox import (
    Appended,
    Conflict,
    Expired,
    Failed,
    Incoming,
    Known,
    LogState,
    Repeat,
    anchored,
    fingerprint,
    fold,
    incoming,
    needs_rows,
)

LOG = "inbox/normal"
EMPTY = anchored(7, Head())
SOON = "1970-01-01T00:33:20Z"  # 2,000,000 ms


def record(offset: int, *, ts: int = 1_000, moved_id: str | None = None, **fields: Any) -> Incoming:
    """A record of user u1; a field that is None is left out."""
    value = {"user": "u1", "title": "t", **{name: value for name, value in fields.items() if value is not None}}
    return incoming(key=b"u1", value=json.dumps(value).encode(), ts=ts, place=(2, 1, 0, offset), moved_id=moved_id)


def head_of(rows: list[Row]) -> Head:
    marks = tuple(r.mark() for r in reversed(rows[-RECENT:]))
    return rows[-1].head(marks) if rows else Head()


def rows_of(verdicts: list[Any]) -> list[Row]:
    return [v.row for v in verdicts if isinstance(v, Appended)]


def test_seqs_are_dense_and_frames_carry_them() -> None:
    state, verdicts = fold(EMPTY, (), [record(5), record(9), record(10)], LOG)
    assert [row.seq for row in rows_of(verdicts)] == [1, 2, 3]
    assert [json.loads(row.frame)["seq"] for row in rows_of(verdicts)] == [1, 2, 3]
    assert (state.seq, state.n, state.epoch) == (3, 3, 7)


def test_a_record_without_an_id_is_named_by_its_position() -> None:
    first, second = record(1), record(2)
    assert len(first.id) == 26
    assert first.id < second.id
    assert first.key == ""


def test_a_record_that_was_sent_on_keeps_the_id_it_had_and_repeats_by_it() -> None:
    moved = record(8, moved_id="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert (moved.id, moved.key) == ("01ARZ3NDEKTSV4RRFFQ69G5FAV",) * 2
    _, verdicts = fold(EMPTY, (), [moved, record(9, moved_id=moved.id)], LOG)
    assert isinstance(verdicts[1], Repeat)


def test_a_number_is_taken_as_an_id() -> None:
    assert record(1, id=42).id == "42"


def test_the_same_id_with_the_same_content_is_the_same_entry() -> None:
    state, verdicts = fold(EMPTY, (), [record(1, id="a"), record(2, id="a")], LOG)
    assert verdicts[1] == Repeat(1)
    assert state.seq == 1


def test_the_same_id_with_other_content_is_a_conflict() -> None:
    _, verdicts = fold(EMPTY, (), [record(1, id="a"), record(2, id="a", title="other")], LOG)
    assert verdicts[1] == Conflict(1)


def test_a_retry_after_it_has_expired_is_a_repeat() -> None:
    first, late = record(1, id="a", expires_at=SOON), record(2, id="a", expires_at=SOON, ts=3_000_000)
    state, verdicts = fold(EMPTY, (), [first, late], LOG)
    assert verdicts[1] == Repeat(1)
    assert fold(state, [verdicts[0].row.mark()], [late], LOG)[1] == [Repeat(1)]  # type: ignore[union-attr]  # appended


def test_other_content_under_an_id_is_a_conflict_also_when_it_has_expired() -> None:
    late = record(2, id="a", title="other", expires_at=SOON, ts=3_000_000)
    _, verdicts = fold(EMPTY, (), [record(1, id="a"), late], LOG)
    assert verdicts[1] == Conflict(1)


def test_a_record_that_had_expired_is_so_when_it_is_judged_again_after_a_later_use_of_its_id() -> None:
    expired = record(1, id="a", expires_at=SOON, ts=3_000_000)
    records = [expired, record(2, id="a", title="other")]
    state, verdicts = fold(EMPTY, (), records, LOG)
    assert isinstance(verdicts[0], Expired)
    rows = rows_of(verdicts)
    _, again = fold(anchored(8, head_of(rows)), head_of(rows).recent, records, LOG)
    assert again == [Expired(), Known(rows[0].mark())]
    assert state.seq == 1


def test_the_same_json_in_another_form_is_the_same_content() -> None:
    first = record(1, id="a", data={"x": 1, "y": [1.5, "é"]}, expires_at="2030-01-01T00:00:00Z")
    value = (
        '{ "user": "u1", "title": "t", "id": "a", "expires_at": "2030-01-01T01:00:00+01:00",\n'
        '"data": {"y": [15e-1, "\\u00e9"], "x": 1.0} }'
    )
    again = incoming(key=b"u1", value=value.encode(), ts=1_000, place=(2, 1, 0, 2), moved_id=None)
    _, verdicts = fold(EMPTY, (), [first, again], LOG)
    assert verdicts[1] == Repeat(1)


def test_a_number_and_its_text_are_the_same_id() -> None:
    _, verdicts = fold(EMPTY, (), [record(1, id=5), record(2, id="5")], LOG)
    assert verdicts[1] == Repeat(1)


def test_an_id_is_free_again_after_256_rows() -> None:
    records = [record(0, id="a"), *(record(i) for i in range(1, RECENT)), record(RECENT, id="a")]
    _, verdicts = fold(EMPTY, (), records, LOG)
    assert verdicts[-1] == Repeat(1)
    records.insert(1, record(RECENT, id="other"))
    records = [record(i, id="a" if r.key == "a" else None) for i, r in enumerate(records)]
    _, verdicts = fold(EMPTY, (), records, LOG)
    assert isinstance(verdicts[-1], Appended)


def test_a_record_past_its_time_gets_no_seq() -> None:
    late = record(1, ts=2_000_000, expires_at="1970-01-01T00:33:20Z")
    state, verdicts = fold(EMPTY, (), [late, record(2)], LOG)
    assert verdicts[0] == Expired()
    assert state.seq == 1


def test_an_entry_for_one_device_does_not_count_as_unread() -> None:
    state, verdicts = fold(EMPTY, (), [record(1, device="phone"), record(2)], LOG)
    assert [row.n for row in rows_of(verdicts)] == [0, 1]
    assert state.n == 1


def test_entries_that_expire_are_counted_with_the_latest_time_of_theirs() -> None:
    times = [None, "2030-01-01T00:00:00Z", "2029-01-01T00:00:00Z", None, "2031-01-01T00:00:00Z"]
    records = [record(i, expires_at=time, device="phone" if i == 4 else None) for i, time in enumerate(times)]
    state, verdicts = fold(EMPTY, (), records, LOG)
    rows = rows_of(verdicts)
    assert [row.expiring for row in rows] == [0, 1, 2, 2, 2]
    assert [row.latest for row in rows] == [0, rows[1].expires, rows[1].expires, rows[1].expires, rows[1].expires]
    assert state.head() == rows[-1].head(())
    assert anchored(7, head_of(rows)) == state


def test_what_was_judged_before_is_not_appended_again() -> None:
    records = [record(i) for i in range(3)]
    _, verdicts = fold(EMPTY, (), records, LOG)
    head = head_of(rows_of(verdicts))
    state, again = fold(anchored(8, head), head.recent, [*records, record(3)], LOG)
    assert again[:3] == [Known(row.mark()) for row in rows_of(verdicts)]
    assert isinstance(again[3], Appended)
    assert state.seq == 4


def test_the_rows_are_asked_only_where_the_state_cannot_say() -> None:
    state, _ = fold(EMPTY, (), [record(5, id="a")], LOG)
    assert not needs_rows(state, [record(6, id="b"), record(7)])
    assert needs_rows(state, [record(6, id="a")])
    assert needs_rows(state, [record(5)])


def test_fingerprints_cover_the_last_256_rows() -> None:
    state, _ = fold(EMPTY, (), [record(i, id=f"k{i}") for i in range(RECENT + 1)], LOG)
    assert len(state.prints) == 2 * RECENT
    assert fingerprint("k256") == state.prints[-2:]


@given(st.lists(st.integers(0, 5).map(lambda n: f"k{n}"), max_size=12), st.integers(0, 5), st.data())
def test_the_rows_are_asked_for_just_when_a_fingerprint_fits(keys: list[str], number: int, data: st.DataObject) -> None:
    # few hashes, one of them zeros next to zeros, so that bytes of neighbours fit as well
    hashes = {f"k{n}": data.draw(st.sampled_from([b"\1\0", b"\0\1", b"\1\1", b"\2\1"])) for n in range(6)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.inbox.fingerprint", hashes.__getitem__)
        state = LogState(epoch=1, seq=0, src=0, n=0, prints=b"".join(hashes[key] for key in keys))
        wanted = f"k{number}"
        assert needs_rows(state, [record(1, id=wanted)]) == (hashes[wanted] in [hashes[key] for key in keys])


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (b"u1", b"{", "not_json"),
        (b"u1", b"\xff\xfe", "not_json"),
        (b"u1", b'{"user":"u1","data":{"a":"\xff"}}', "not_json"),
        (b"u1", None, "bad_request"),
        (b"u1", b"[]", "bad_request"),
        (b"u1", b'{"title":"t"}', "bad_request"),
        (b"u1", b'{"user":"","title":"t"}', "bad_request"),
        (b"u1", b'{"user":"u1"}', "bad_request"),
        (b"u1", b'{"user":"u1","title":7}', "bad_request"),
        (b"u1", b'{"user":"u1","data":7}', "bad_request"),
        (b"u1", b'{"user":"u1","title":"t","expires_at":"2026-01-01T00:00:00"}', "bad_request"),
        (b"u1", b'{"user":"u1","data":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}", "bad_request"),
        (b"u2", b'{"user":"u1","title":"t"}', "key_mismatch"),
        (None, b'{"user":"u1","title":"t"}', "key_mismatch"),
        (b"u1", b'{"user":"u1","title":"' + b"x" * 65_536 + b'"}', "too_large"),
    ],
)
def test_bad_input_is_refused_with_its_reason(key: bytes | None, value: bytes | None, code: str) -> None:
    with pytest.raises(BadRecord) as refused:
        incoming(key=key, value=value, ts=1, place=(2, 1, 0, 0), moved_id=None)
    assert refused.value.code == code


@pytest.mark.parametrize("ts", [-1, 253_402_300_800_000, 2**62])
def test_a_time_that_is_none_is_refused(ts: int) -> None:
    with pytest.raises(BadRecord):
        record(1, ts=ts)


contents_of_records = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["x", "y"]), st.booleans()), max_size=20
)
turns = st.lists(st.tuples(st.integers(1, 8), st.booleans(), st.integers(0, 5)), max_size=30)


@given(contents_of_records, turns)
def test_the_outcome_does_not_depend_on_batches_crashes_and_redelivery(
    contents: list[tuple[str, str, bool]], turns: list[tuple[int, bool, int]]
) -> None:
    """Cut the records into any batches, crash between append and mark, deliver again: the rows are the same."""
    records = [
        record(i, title=title, id=key or None, device="d" if targeted else None)
        for i, (key, title, targeted) in enumerate(contents)
    ]
    _, verdicts = fold(EMPTY, (), records, LOG)
    expected = rows_of(verdicts)
    store: list[Row] = []
    state: LogState | None = None
    position = 0
    for size, marked, back in [*turns, (len(records), True, 0)]:
        batch = records[position : position + size]
        marks: tuple[Mark, ...] = ()
        if state is None or needs_rows(state, batch):
            head = head_of(store)
            state, marks = anchored(9, head), head.recent
        after, judged = fold(state, marks, batch, LOG)
        store += rows_of(judged)
        if marked:
            state, position = after, position + len(batch)
        else:  # crash after the append: nothing is marked, another worker begins at or before this batch
            state, position = None, max(0, position - back)
    assert store == expected


def fail_for(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def frame(note: Any, **given: Any) -> bytes:
        if note.title == title:
            raise ZeroDivisionError("a fault of ours")
        return notification_frame(note, **given)

    monkeypatch.setattr(streams.inbox, "notification_frame", frame)


def test_a_record_that_the_rule_fails_on_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_for("bad", monkeypatch)
    records = [record(1, id="a"), record(2, id="b", title="bad"), record(3, id="c")]
    state, verdicts = fold(EMPTY, (), records, LOG)
    assert verdicts[1] == Failed("ZeroDivisionError: a fault of ours")
    assert [(row.seq, row.key) for row in rows_of(verdicts)] == [(1, "a"), (2, "c")]
    assert state == fold(EMPTY, (), [records[0], records[2]], LOG)[0]


def test_a_record_that_the_rule_failed_on_fails_again_when_it_is_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_for("bad", monkeypatch)
    records = [record(1), record(2, title="bad"), record(3)]
    _, verdicts = fold(EMPTY, (), records, LOG)
    head = head_of(rows_of(verdicts))
    state, again = fold(anchored(8, head), head.recent, records, LOG)
    assert [type(verdict) for verdict in again] == [Known, Failed, Known]
    assert state.seq == 2
