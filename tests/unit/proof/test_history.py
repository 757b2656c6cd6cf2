from pathlib import Path

import msgspec
import pytest

from proof.history import AnyEvent, Connected, Entry, Fault, History, Produce, Skip, read, write
from tests.unit.proof.stories import story


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    told = story("phone")
    told.produce("a", device="web")
    told.leave_open("b")
    told.fail("c")
    told.entry("phone", 1, "a", shown=False)
    told.skip("phone", 2, 3)
    told.gap("phone", 4, 5)
    told.too_long("phone", 6)
    told.reset("phone", 0)
    told.ack("phone", 1)
    told.status("a", "expired", "expired")
    told.dead_letter(7)
    events: list[AnyEvent] = [*told.end("phone"), Fault(at=1, name="kill"), Fault(at=2, name="kill", phase="end")]
    assert list(read(write(tmp_path / "h.jsonl", events))) == events


def test_a_line_is_plain_json_with_the_kind_of_the_event(tmp_path: Path) -> None:
    entry = Entry(at=0.5, user="u1", device="phone", log="inbox/normal", seq=3, id="a")
    line = write(tmp_path / "h.jsonl", [entry]).read_text()
    assert msgspec.json.decode(line) == {
        "event": "entry", "at": 0.5, "user": "u1", "device": "phone", "log": "inbox/normal", "seq": 3, "id": "a",
    }  # fmt: skip
    assert line.endswith("\n")


def test_time_begins_with_the_history_and_is_seconds(tmp_path: Path) -> None:
    ticks = iter([100.0, 101.25])
    with History(tmp_path / "new" / "h.jsonl", clock=lambda: next(ticks)) as history:
        assert history.now() == 1.25


def test_events_are_added_in_order_and_counted(tmp_path: Path) -> None:
    with History(tmp_path / "h.jsonl") as history:
        history.add(Connected(at=0, user="u1", device="phone"))
        history.add(Produce(at=1, op=1, user="u1", lane="bulk", id="a"))
        assert history.count == 2
        history.flush()
        assert [type(event) for event in read(history.path)] == [Connected, Produce]


def test_a_line_that_is_no_event_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text('{"event": "nothing", "at": 1}\n')
    with pytest.raises(msgspec.ValidationError):
        list(read(path))


def test_an_unknown_reason_of_a_skip_is_kept(tmp_path: Path) -> None:
    skip = Skip(at=0, user="u", device="d", log="l", first=1, last=2, reason="new")
    assert list(read(write(tmp_path / "h.jsonl", [skip]))) == [skip]
