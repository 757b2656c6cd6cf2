"""All benchmarks in turn: what fails is said, what was measured is written and drawn."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import suite
from bench.__main__ import BENCHES, CHECKS
from bench.drawings import bars, draw, grouped

ROWS = [
    {"target": target, "load": "1 message/s", "deliveries": 100, "cpu": cpu, "p99": 1.0, "joins_cpu": 1e-4, "pss": 2048}
    for target, cpu in (("ours", 1.0), ("ours", 2.0), ("ours", 4.0), ("theirs", 3.0))
]


def test_every_benchmark_of_the_suite_exists() -> None:
    assert {step.name for step in suite.STEPS} <= {*BENCHES, *CHECKS}


def test_what_was_measured_is_written_and_drawn_and_what_failed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], *, check: bool) -> Any:
        assert not check
        name, out = command[3], Path(command[-1])
        if name == "tier":
            out.write_text(json.dumps(ROWS))
        return subprocess.CompletedProcess(command, 0 if name == "tier" else 1)

    monkeypatch.setattr(subprocess, "run", run)
    assert suite.main(["--only", "tier,inbox", "--out", str(tmp_path)]) == 1
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["figures"] == {"tier": ROWS}
    assert found["failed"] == ["inbox"]
    assert found["machine"]["cores"]
    assert (tmp_path / "tier.svg").read_text().startswith("<?xml")
    assert "failed: inbox" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {
        "figures.json",
        "tier.svg",
        "tier-latency.svg",
        "tier-joins.svg",
    }


def test_figures_of_benchmarks_that_are_not_run_again_stay_unless_they_are_of_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], *, check: bool) -> Any:
        assert not check
        Path(command[-1]).write_text(json.dumps([{"benchmark": command[3]}]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(suite, "draw", lambda _figures, _out: [])
    for name in ("slow", "herd"):
        assert suite.main(["--only", name, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["figures"] == {"slow": [{"benchmark": "slow"}], "herd": [{"benchmark": "herd"}]}
    assert found["begun"].keys() == {"slow", "herd"}
    monkeypatch.setattr(suite, "machine", lambda: {"cores": 64})
    assert suite.main(["--only", "slow", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "figures.json").read_text())["figures"].keys() == {"slow"}


def test_a_glance_leaves_out_what_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(command: list[str], *, check: bool) -> Any:
        assert not check
        ran.append(command[3])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert suite.main(["--quick", "--out", str(tmp_path)]) == 0
    assert ran == [step.name for step in suite.STEPS if step.quick is not None]


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        suite.main(["--only", "teir"])
    assert "'teir'; there are latency" in capsys.readouterr().err


def test_a_bar_is_the_median_of_its_rounds() -> None:
    values = grouped(
        ROWS, lambda row: row["target"], lambda row: row["load"], lambda row: row["deliveries"] / row["cpu"]
    )
    assert values == {"ours": {"1 message/s": 50.0}, "theirs": {"1 message/s": 100 / 3}}
    assert bars("title", values).axes[0].get_legend_handles_labels()[1] == ["ours", "theirs"]


def test_a_benchmark_without_a_drawing_is_left_out(tmp_path: Path) -> None:
    assert draw({"latency": ROWS}, tmp_path) == []


@pytest.mark.parametrize("name", ["herd", "slow", "all"])
def test_every_benchmark_says_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        CHECKS[name](["--help"])
    assert ended.value.code == 0
    assert f"python -m bench {name}" in capsys.readouterr().out
