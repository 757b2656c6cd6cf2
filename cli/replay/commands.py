"""The commands `tocsin replay` and `tocsin dlq`."""

# ruff: noqa: PLC0415 - commands import what they need when they run, so that --help is quick

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import shell
from cli.arguments import Json, Lane

if TYPE_CHECKING:
    from schemas.replays import Operation

replay_app = typer.Typer(help="Processing records again; shows what it would do, --yes does it.", no_args_is_help=True)
dlq_app = typer.Typer(help="Dead letters: records that could not be processed.", no_args_is_help=True)


Names = list[str] | None
LaneOption = Annotated[Lane | None, typer.Option(help="The topic notifications.LANE.")]
Topic = Annotated[str | None, typer.Option(help="The topic.")]
Came = Annotated[Names, typer.Option("--topic", help="Only letters from this topic; may be repeated.")]
CLane = Annotated[Lane | None, typer.Option("--lane", help="Only letters from notifications.LANE.")]
FROM_HELP = "First: offsets (1500, or 0:1500,1:200), a time (2026-01-31T12:00:00Z, or -2h) or an id."
First = Annotated[str | None, typer.Option("--from", help=FROM_HELP)]
Last = Annotated[str | None, typer.Option("--to", help="End, exclusive (an id: inclusive); without it: now.")]
Users = Annotated[Names, typer.Option("--user", help="Only this user; may be repeated.")]
Kinds = Annotated[Names, typer.Option("--kind", help="Only this kind; may be repeated.")]
Keys = Annotated[Names, typer.Option("--key", help="Only this id of the producer; may be repeated.")]
Reasons = Annotated[Names, typer.Option("--reason", help="Only letters with this reason; may be repeated.")]
RunOption = Annotated[str | None, typer.Option("--run", help="Go on with this run, or name a new one so.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only show it.")]
Rate = Annotated[
    float, typer.Option("--rate", min=0, max=1e6, help="Records a second at most, 0: as fast as possible.")
]
Limit = Annotated[int, typer.Option("--limit", min=0, help="End after so many records, 0: no limit.")]
Everything = Annotated[bool, typer.Option("--all", help="Also letters that were redriven or dropped before.")]


def _run(operation: "Operation", *, run: str | None, **fields: Any) -> None:
    from cli.replay.planning import replay
    from cli.replay.wish import Wish, run_named

    named = None if run is None else run_named(run)
    given = {name: value for name, value in fields.items() if value is not None}
    shell.run(replay(shell.near_settings(), Wish(operation=operation, run=named, **given)))


def _topic(topic: str | None, lane: Lane | None) -> str | None:
    return f"notifications.{lane.value}" if lane else topic


def _topics(topics: Names, lane: Lane | None) -> list[str]:
    return [*(topics or ()), *([f"notifications.{lane.value}"] if lane else ())]


@replay_app.command("redeliver", epilog="Example: tocsin replay redeliver --lane normal --from -2h --user u1")
def redeliver(
    lane: LaneOption = None, topic: Topic = None, first: First = None, last: Last = None, user: Users = None,
    kind: Kinds = None, key: Keys = None,
    again: Annotated[bool, typer.Option("--again", help="Also what every device of the user has read.")] = False,
    run: RunOption = None, limit: Limit = 0, rate: Rate = 0, yes: Yes = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Send entries again, as new entries with `replayed`.

    What every device has read is left out, and so is what has expired.
    """
    _run(
        "redeliver", topic=_topic(topic, lane), first=first, last=last, users=user, kinds=kind, keys=key, again=again,
        run=run, limit=limit, rate=rate, yes=yes, as_json=as_json,
    )  # fmt: skip


@replay_app.command("rebuild", epilog="Example: tocsin replay rebuild, while no worker runs")
def rebuild(
    lane: LaneOption = None, topic: Topic = None, first: First = None, last: Last = None, user: Users = None,
    new_epoch: Annotated[
        bool, typer.Option("--new-epoch", help="Give the store a new identity: every device starts anew.")
    ] = False,
    run: RunOption = None, limit: Limit = 0, rate: Rate = 0, yes: Yes = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Make the rows again that the store has lost.

    Rows that are there stay as they are. The workers have to be stopped.
    """
    _run(
        "rebuild", topic=_topic(topic, lane), first=first, last=last, users=user, new_epoch=new_epoch,
        run=run, limit=limit, rate=rate, yes=yes, as_json=as_json,
    )  # fmt: skip


@replay_app.command("redrive", epilog="Example: tocsin replay redrive --reason rule_failed")
@dlq_app.command("redrive", epilog="Example: tocsin dlq redrive --reason rule_failed --user u1")
def redrive(
    reason: Reasons = None, topic: Came = None, lane: CLane = None, first: First = None, last: Last = None,
    user: Users = None, everything: Everything = False,
    run: RunOption = None, limit: Limit = 0, rate: Rate = 0, yes: Yes = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Send dead letters back to the topics they came from.

    For when their cause is gone. --from and --to are of the topic dead-letters.
    """
    _run(
        "redrive", reasons=reason, topics=_topics(topic, lane), first=first, last=last, users=user, settled=everything,
        run=run, limit=limit, rate=rate, yes=yes, as_json=as_json,
    )  # fmt: skip


@dlq_app.command("drop", epilog="Example: tocsin dlq drop --reason not_json")
def drop(
    reason: Reasons = None, topic: Came = None, lane: CLane = None, first: First = None, last: Last = None,
    user: Users = None, everything: Everything = False,
    run: RunOption = None, limit: Limit = 0, yes: Yes = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Mark dead letters as done with.

    Kafka keeps them until their time is over; `ls` and `redrive` leave them out.
    """
    _run(
        "drop", reasons=reason, topics=_topics(topic, lane), first=first, last=last, users=user, settled=everything,
        run=run, limit=limit, yes=yes, as_json=as_json,
    )  # fmt: skip


@replay_app.command("list", epilog="Example: tocsin replay list")
def list_runs(as_json: Json = False) -> None:
    """Show all runs: who asked for what, when, and how far it came."""
    from cli.replay.listing import list_runs

    shell.run(list_runs(shell.near_settings(), as_json=as_json))


@replay_app.command("show", epilog="Example: tocsin replay show redeliver-0f3a5c7e9b1d")
def show_run(run: Annotated[str, typer.Argument(help="Name of the run.")], as_json: Json = False) -> None:
    """Show one run."""
    from cli.replay.listing import show_run

    shell.run(show_run(shell.near_settings(), run, as_json=as_json))


@dlq_app.command("ls", epilog="Example: tocsin dlq ls")
def ls(
    reason: Reasons = None, topic: Came = None, lane: CLane = None, user: Users = None, everything: Everything = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Count dead letters by reason and topic."""
    from cli.replay.letters import list_letters

    work = list_letters(
        shell.near_settings(), reasons=reason or [], topics=_topics(topic, lane), users=user or [],
        everything=everything, as_json=as_json,
    )  # fmt: skip
    shell.run(work)


@dlq_app.command("show", epilog="Example: tocsin dlq show 0:17, or: tocsin dlq show --reason conflict --limit 3")
def show(
    at: Annotated[list[str] | None, typer.Argument(help="Where letters lie: partition:offset.")] = None,
    reason: Reasons = None, topic: Came = None, lane: CLane = None, user: Users = None,
    everything: Everything = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show so many at most.")] = 10,
    value: Annotated[bool, typer.Option("--value", help="Show the values too, which people wrote.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show dead letters with their headers."""
    from cli.replay.letters import show_letters

    work = show_letters(
        shell.near_settings(), at or [], reasons=reason or [], topics=_topics(topic, lane), users=user or [],
        everything=everything, limit=limit, with_value=value, as_json=as_json,
    )  # fmt: skip
    shell.run(work)
