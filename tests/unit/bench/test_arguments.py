"""The command line of the benchmarks."""

import pytest

from bench.__main__ import BENCHES, parse


def test_without_names_all_run() -> None:
    assert parse([]).names == list(BENCHES)
    assert parse(["--quick"]).names == list(BENCHES)


def test_those_named_run() -> None:
    assert parse(["latency", "--stack", "embedded"]).names == ["latency"]


def test_an_unknown_one_is_refused_and_the_others_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["latncy"])
    assert "'latncy'; there are devices, fairness, ladder, latency" in capsys.readouterr().err
