"""`tocsin replay list|show`: what the journal says, which is the record of who replayed what."""

from cli.replay.journal import read_journal
from cli.replay.reading import reading
from cli.replay.report import described, spans_of
from cli.terminal import columns, say, show
from schemas.frames import rfc3339
from schemas.replays import Run
from streams.replay_journal import Journal, latest_first, left
from streams.settings import Settings


async def list_runs(settings: Settings, *, as_json: bool) -> int:
    """Print every run, the latest first; return 0."""
    runs = latest_first((await _journal(settings)).runs)
    if as_json:
        show([described(run) for run in runs])
        return 0
    if not runs:
        say("no runs")
        return 0
    rows = [
        (run.run, run.event, str(run.counts.get("taken", 0)), str(left(run)), rfc3339(run.at), run.who) for run in runs
    ]
    say(*columns([("run", "state", "taken", "left", "last", "who"), *rows]))
    return 0


async def show_run(settings: Settings, name: str, *, as_json: bool) -> int:
    """Print one run; return 0. Raises `UnknownRun`."""
    run = (await _journal(settings)).run(name)
    if as_json:
        show(described(run))
        return 0
    say(*_lines(run))
    return 0


def _lines(run: Run) -> list[str]:
    asked = run.asked
    filters = {"user": asked.users, "kind": asked.kinds, "key": asked.keys, "reason": asked.reasons}
    filters["topic"] = asked.topics
    flags = {"again": asked.again, "all": asked.settled, "new-epoch": asked.new_epoch}
    wanted = [f"{name} {', '.join(values)}" for name, values in filters.items() if values]
    wanted += [name for name, on in flags.items() if on] + ([f"limit {asked.limit}"] if asked.limit else [])
    return [
        f"run      {run.run}",
        f"what     {asked.operation} {'; '.join(wanted) or 'everything'}",
        *(f"range    {line}" for line in spans_of(asked.spans)),
        f"who      {run.who}, process {run.pid}",
        f"started  {rfc3339(run.started_at)}",
        f"state    {run.event}, {rfc3339(run.at)}, {left(run)} offsets left",
        *(f"count    {name} {count}" for name, count in run.counts.items()),
    ]


async def _journal(settings: Settings) -> Journal:
    async with reading(settings) as reader:
        return await read_journal(reader, settings)
