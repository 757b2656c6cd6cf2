"""The command line of the benchmarks."""

import pytest

from bench import broker
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


@pytest.mark.parametrize("wrong", [["--rate", "0"], ["--seconds", "0"], ["--partitions", "0"], ["--hold", "-1"]])
def test_a_broker_is_not_asked_for_what_cannot_be_measured(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        broker.main(["--stack", "embedded", *wrong])
    assert "has to be 5 records, --partitions 1, --hold 0, at the least" in capsys.readouterr().err
