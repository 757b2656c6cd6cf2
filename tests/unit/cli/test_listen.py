"""What `tocsin listen` prints and keeps."""

import json
from pathlib import Path

import msgspec
import pytest

from cli.listen import CursorFile, entry_of, latency_ms, line_of
from schemas import frames
from schemas.errors import SettingsError
from schemas.frames import NotificationFrame
from schemas.records import Notification


def entry(**fields: object) -> NotificationFrame:
    record = msgspec.convert({"user": "u", **fields}, Notification)
    frame = frames.notification_frame(record, log="inbox/normal", seq=7, n=7, id_="i", ts_ms=1_000_000)
    return msgspec.json.decode(frame, type=NotificationFrame)


def test_a_line_shows_log_seq_text_and_latency() -> None:
    line = line_of(entry(title="T", body="B", kind="k"), 1000.012)
    assert line == "inbox/normal 7 [k] T - B  (12 ms)"


def test_latency_is_what_passed_since_kafka_took_it() -> None:
    assert latency_ms(entry(title="T"), 1001.0) == pytest.approx(1000)


def test_json_is_the_frame_with_its_latency() -> None:
    shown = json.loads(msgspec.json.encode(entry_of(entry(title="T", expires_at="2026-01-01T00:00:00Z"), 1000.012)))
    assert (shown["type"], shown["seq"], shown["title"], shown["latency_ms"]) == ("notification", 7, "T", 12.0)
    assert "data" not in shown


def test_json_carries_data_as_an_object() -> None:
    record = Notification(user="u", data=msgspec.Raw(b'{"a": 1}'))
    frame = frames.notification_frame(record, log="l", seq=1, n=1, id_="i", ts_ms=0)
    shown = json.loads(msgspec.json.encode(entry_of(msgspec.json.decode(frame, type=NotificationFrame), 0.0)))
    assert shown["data"] == {"a": 1}


def test_cursors_are_found_again(tmp_path: Path) -> None:
    file = CursorFile(tmp_path / "c.json", "u", "d")
    file.cursors.cursors["inbox/normal"] = 7
    file.cursors.epoch = "e"
    file.write()
    again = CursorFile(tmp_path / "c.json", "u", "d").cursors
    assert (again.cursors, again.epoch) == ({"inbox/normal": 7}, "e")
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"c\.json cannot be written: No such file or directory"):
        CursorFile(tmp_path / "no folder" / "c.json", "u", "d").write()


def test_cursors_of_somebody_else_are_refused(tmp_path: Path) -> None:
    CursorFile(tmp_path / "c.json", "u", "d").write()
    with pytest.raises(SettingsError, match="is of user 'u', device 'd'"):
        CursorFile(tmp_path / "c.json", "u", "other")


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(SettingsError, match="holds no cursors"):
        CursorFile(tmp_path / "c.json", "u", "d")
