"""`python -m proof check`."""

import gzip
from pathlib import Path

import pytest

from proof.__main__ import main
from proof.history import Fault, write
from tests.unit.proof.stories import Story, story


def right() -> Story:
    told = story("phone")
    told.produce("a")
    told.show("phone", "a")
    return told


def test_a_history_that_keeps_the_promises_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = right()
    told.events += [Fault(at=1, name="kill"), Fault(at=2, name="kill", phase="end")]
    assert main(["check", str(write(tmp_path / "h.jsonl", told.end("phone")))]) == 0
    said = capsys.readouterr().out
    assert "operations=1" in said
    assert all(f"{name} holds" in said for name in ("I1", "I2", "I3", "I4"))
    assert "recovery" in said


def test_a_broken_one_ends_with_1_and_shows_the_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "good.jsonl", right().end("phone"))
    told = right()
    told.produce("lost")
    bad = write(tmp_path / "bad.jsonl", told.end("phone"))
    assert main(["check", str(bad), str(good)]) == 1
    said = capsys.readouterr().out
    assert "I1 BROKEN 1 times" in said
    assert '"id":"lost"' in said


@pytest.mark.parametrize("arguments", [[], ["check"], ["judge", "file"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_a_file_that_is_no_history_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none")]) == 2
    (tmp_path / "wrong").write_text("{}\n")
    assert main(["check", str(tmp_path / "wrong")]) == 2
    assert capsys.readouterr().err.count("proof: ") == 2


def test_a_compressed_history_is_read_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = write(tmp_path / "h.jsonl", right().end("phone")).read_bytes()
    compressed = tmp_path / "h.jsonl.gz"
    compressed.write_bytes(gzip.compress(history))
    assert main(["check", str(compressed)]) == 0
    compressed.write_bytes(gzip.compress(history)[:-9])
    assert main(["check", str(compressed)]) == 2
    assert "proof: " in capsys.readouterr().err


def test_the_published_history_keeps_the_promises(capsys: pytest.CaptureFixture[str]) -> None:
    published = Path(__file__).parents[3] / "docs" / "histories" / "worker-killed.jsonl.gz"
    assert main(["check", str(published)]) == 0
    said = capsys.readouterr().out
    assert "operations=12000 acknowledged=12000" in said
    assert "faults=20" in said
