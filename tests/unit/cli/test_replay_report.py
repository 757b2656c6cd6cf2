"""What `tocsin replay` prints: plans, ends, and commands that mean what they say."""

import json
import shlex
from typing import Any

import pytest
import typer.main

from cli.main import app
from cli.replay.report import Carried, Report, Shown, finished_before, resume_command, spans_of
from cli.replay.steps import Taken
from cli.replay.wish import Wish, run_named
from schemas.replays import Asked, Run, Span
from streams.replay import LEFT_OUT, LeftOut, run_name
from streams.replay_journal import begun, ended
from streams.replay_range import Extent, RangeError, parse_bound, resolve

NORMAL, BULK = "notifications.normal", "notifications.bulk"
SPANS = [Span(NORMAL, 0, 5, 10), Span(NORMAL, 2, 0, 4)]


def a_run(**fields: Any) -> Run:
    asked = Asked(**{"operation": "redeliver", "spans": SPANS, **fields})
    return begun(run_name(asked), asked, who="ops@here", pid=1, now_ms=0)


def parsed(command: str) -> dict[str, Any]:
    """What the command line makes of a command."""
    words = shlex.split(command)
    assert words.pop(0) == "tocsin"
    group: Any = typer.main.get_command(app)
    inner = group.commands[words[0]].commands[words[1]]
    params: dict[str, Any] = inner.make_context(words[1], words[2:]).params
    return params


def spans_meant(params: dict[str, Any], topics: list[str]) -> list[Span]:
    first, last = parse_bound(params["first"], 0), parse_bound(params["last"], 0)
    extents = [Extent(topic, dict.fromkeys(range(4), 0), dict.fromkeys(range(4), 99)) for topic in topics]
    return [
        Span(extent.topic, partition, *found)
        for extent in extents
        for partition, found in resolve(extent, first, last).items()
    ]


def test_the_command_of_a_plan_asks_for_the_same() -> None:
    run = a_run(users=["u 1", "u2"], kinds=["k"], keys=["a"], limit=3, again=True)
    params = parsed(resume_command(run, known=False))
    assert spans_meant(params, [params["topic"]]) == SPANS
    chosen = {name: params[name] for name in ("topic", "user", "kind", "key", "limit", "again", "yes", "run")}
    assert chosen == {
        "topic": NORMAL, "user": ["u 1", "u2"], "kind": ["k"], "key": ["a"], "limit": 3, "again": True, "yes": True,
        "run": None,
    }  # fmt: skip


def test_the_command_of_a_plan_over_several_topics_names_them() -> None:
    spans = [*SPANS, Span(BULK, 1, 3, 7)]
    params = parsed(resume_command(a_run(operation="rebuild", spans=spans, new_epoch=True), known=False))
    assert spans_meant(params, [NORMAL, BULK]) == spans
    assert (params["topic"], params["new_epoch"]) == (None, True)


@pytest.mark.parametrize("operation", ["redrive", "drop"])
def test_the_command_for_letters_has_their_filters(operation: str) -> None:
    spans = [Span("dead-letters", 1, 0, 4)]
    run = a_run(operation=operation, spans=spans, reasons=["conflict"], topics=[BULK], settled=True)
    params = parsed(resume_command(run, known=False))
    assert spans_meant(params, ["dead-letters"]) == spans
    assert (params["reason"], params["topic"], params["everything"]) == (["conflict"], [BULK], True)


def test_a_run_that_the_journal_knows_is_named() -> None:
    run = a_run()
    assert resume_command(run, known=True) == f"tocsin replay redeliver --run {run.run} --yes"


def report(users: int = 1) -> Report:
    found = Report()
    for number in range(users):
        found.add(Taken(f"u{number}", "k" if number else ""))
    found.add(LeftOut("read"))
    found.add(None)
    return found


def test_a_plan_names_the_first_twenty_and_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Shown(False, LEFT_OUT).plan(a_run(), report(25), "tocsin …")
    said = capsys.readouterr().out
    assert "would send again 25 records" in said
    assert "by kind: k 24, (none) 1\n" in said
    assert "u19 1 and 5 more" in said
    assert "left out: 1 read (every device of the user has read it" in said
    assert said.endswith("nothing was changed; this does it:\n  tocsin …\n")


def test_a_plan_that_would_be_refused_says_why_and_offers_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    found = report()
    found.refusal = "too little is left"
    Shown(False, LEFT_OUT).plan(a_run(), found, "tocsin …")
    said = capsys.readouterr().out
    assert said.endswith("refused: too little is left\n")


def test_a_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    Shown(True, LEFT_OUT).plan(a_run(), report(2), "c")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["taken"], shown["users"], shown["left_out"]) == (2, {"u0": 1, "u1": 1}, {"read": 1})
    assert (shown["command"], shown["refused"]) == ("c", None)


def test_an_interrupted_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    stopped = ended(a_run(), finished=False, now_ms=0)
    assert Shown(False, LEFT_OUT).done(Carried(stopped, 1.0), "tocsin …") == 130
    assert capsys.readouterr().out.endswith("9 offsets are left; go on with:\n  tocsin …\n")
    finished = ended(a_run(operation="rebuild", new_epoch=True), finished=True, now_ms=0)
    assert Shown(False, LEFT_OUT).done(Carried(finished, 1.0), "") == 0
    assert "restart the gateways" in capsys.readouterr().out


def test_a_finished_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run = ended(a_run(), finished=True, now_ms=0)
    assert finished_before(run, as_json=False) == 0
    assert "finished on 1970-01-01T00:00:00.000Z by ops@here; nothing to do" in capsys.readouterr().out
    finished_before(run, as_json=True)
    assert json.loads(capsys.readouterr().out)["event"] == "finished"


def test_many_ranges_are_cut() -> None:
    lines = spans_of([Span(NORMAL, number, 0, 1) for number in range(64)])
    assert len(lines) == 21
    assert lines[-1] == "44 more partitions"


def test_a_wish_is_bare_where_only_a_run_is_named() -> None:
    assert Wish(operation="redrive", run="r", yes=True, rate=3).is_bare()
    assert not Wish(operation="redrive", run="r", limit=3).is_bare()
    assert run_named("redeliver-0f.1_A") == "redeliver-0f.1_A"
    with pytest.raises(RangeError, match="cannot name a run"):
        run_named("a b")
