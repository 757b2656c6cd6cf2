"""The command line of the benchmarks."""

import pytest

from bench import broker, inbox
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


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--store", "foo"], "there is no target 'foo'; there are cassandra, sqlite"),
        (["--rates", "500,abc"], "argument --rates: 'abc' is not a number above 0"),
        (["--users", "0"], "argument --users: '0' is not a whole number above 0"),
        (["--filled", "-1"], "--filled is -1; it has to be 0 at the least"),
    ],
)
def test_the_inbox_role_is_not_measured_without_a_load(
    wrong: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        inbox.main(wrong)
    assert says in capsys.readouterr().err
