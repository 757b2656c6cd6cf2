"""What `tocsin replay` prints: the plan of a run, how it ended, and what the journal says."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from cli import outputs
from cli.replay.steps import Judged, Taken
from cli.terminal import say, show
from schemas.frames import rfc3339
from schemas.replays import Asked, Run, Span
from streams.replay import LeftOut, run_name
from streams.replay_journal import left

SHOWN: Final = 20  # rows of a list
NAMES: Final = 100_000  # users and kinds that are counted one by one, the rest together
NAMED: Final = 1_000  # dead letters that cannot go back and are named one by one
OTHERS: Final = "(others)"
VERBS: Final = {
    "redeliver": "send again", "rebuild": "append rows for", "redrive": "send back", "drop": "mark as dropped",
}  # fmt: skip


class Carried(msgspec.Struct, frozen=True):
    """How a run ended, how long this part of it took (s), and the dead letters that it passed over."""

    run: Run
    seconds: float
    passed_over: list[LeftOut] = []


class Report:
    """What a run would do, counted; `passed_over` are the dead letters that cannot go back, the first of them."""

    def __init__(self) -> None:
        self.taken = 0
        self.kinds: Counter[str] = Counter()
        self.users: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.passed_over: list[LeftOut] = []
        self.refusal = ""  # why it would not begin

    def add(self, judged: Judged) -> None:
        """Count what becomes of a record."""
        if isinstance(judged, Taken):
            self.taken += 1
            _count(self.kinds, judged.kind or "(none)")
            _count(self.users, judged.user)
        elif isinstance(judged, LeftOut):
            self.left_out[judged.reason] += 1
            if judged.at and len(self.passed_over) < NAMED:
                self.passed_over.append(judged)


def _count(counter: Counter[str], name: str) -> None:
    counter[name if name in counter or len(counter) < NAMES else OTHERS] += 1


class Shown:
    """Prints a run; `reasons` explains why records are left out."""

    def __init__(self, as_json: bool, reasons: Mapping[str, str]) -> None:
        self._as_json = as_json
        self._reasons = reasons

    def plan(self, run: Run, report: Report, command: str) -> None:
        """Print what a run would do."""
        if self._as_json:
            show(_planned(run, report, command))
            return
        by = "by kind" if run.asked.operation in ("redeliver", "rebuild") else "by reason"
        say(
            f"run {run.run}: would {VERBS[run.asked.operation]} {report.taken} records",
            *(f"  from {line}" for line in spans_of(run.asked.spans)),
            *_counted(by, report.kinds),
            *_counted("by user", report.users),
            *self._left_out(report.left_out, report.passed_over),
        )
        if report.refusal:
            say(f"refused: {report.refusal}")
        else:
            say("nothing was changed; this does it:", f"  {command}")

    def done(self, carried: Carried, command: str) -> int:
        """Print how a run ended; return the exit code."""
        run = carried.run
        finished = run.event == "finished"
        if self._as_json:
            told = described(run, command=None if finished else command)
            unsendable = [_unsendable(one) for one in carried.passed_over]
            show(msgspec.structs.replace(told, seconds=round(carried.seconds, 3), unsendable=unsendable))
            return 0 if finished else 130
        say(
            f"run {run.run}: {run.event}, {run.counts.get('taken', 0)} records, {carried.seconds:.1f} s",
            *self._left_out(run.counts, carried.passed_over),
        )
        if finished and run.asked.new_epoch:
            say("the store has a new identity: restart the gateways, so that no session keeps its old cursors")
        if not finished:
            say(f"{left(run)} offsets are left; go on with:", f"  {command}")
        return 0 if finished else 130

    def _left_out(self, counts: Mapping[str, int], passed_over: Sequence[LeftOut]) -> list[str]:
        lines = []
        for reason, text in self._reasons.items():
            if count := counts.get(reason, 0):
                lines.append(f"  left out: {count} {reason} ({text})")
                named = [one for one in passed_over if one.reason == reason]
                lines += [f"    {one.at}" + (f"  {one.why}" if one.why else "") for one in named[:SHOWN]]
                lines += [f"    and {count - SHOWN} more"] if named and count > SHOWN else []
        return lines


def finished_before(run: Run, *, as_json: bool) -> int:
    """Say that there is nothing to do."""
    if as_json:
        show(described(run))
    else:
        say(f"run {run.run}: finished on {rfc3339(run.at)} by {run.who}; nothing to do")
    return 0


def resume_command(run: Run, *, known: bool) -> str:
    """Return the command that does a run: by its name if the journal has it, else with all that it was asked for."""
    words = ["tocsin", *(["dlq", "drop"] if run.asked.operation == "drop" else ["replay", run.asked.operation])]
    words += [] if known else _options(run.asked)
    words += ["--run", run.run] if known or run.run != run_name(run.asked) else []
    return shlex.join([*words, "--yes"])


def _options(asked: Asked) -> list[str]:
    topics = sorted({span.topic for span in asked.spans})
    words: list[str] = []
    if len(topics) == 1 and asked.operation in ("redeliver", "rebuild"):
        words += ["--topic", topics[0]]
    if asked.spans:
        places = [f"{span.topic}/{span.partition}" if len(topics) > 1 else f"{span.partition}" for span in asked.spans]
        words += ["--from", ",".join(f"{p}:{span.first}" for p, span in zip(places, asked.spans, strict=True))]
        words += ["--to", ",".join(f"{p}:{span.last}" for p, span in zip(places, asked.spans, strict=True))]
    lists = {"--user": asked.users, "--kind": asked.kinds, "--key": asked.keys, "--reason": asked.reasons}
    if asked.operation in ("redrive", "drop"):
        lists["--topic"] = asked.topics
    words += [word for option, values in lists.items() for value in values for word in (option, value)]
    words += ["--limit", str(asked.limit)] if asked.limit else []
    flags = {"--again": asked.again, "--all": asked.settled, "--new-epoch": asked.new_epoch}
    return words + [flag for flag, on in flags.items() if on]


def spans_of(spans: Sequence[Span]) -> list[str]:
    """Return ranges for people, the first of many."""
    lines = [f"{span.topic}, partition {span.partition}, offsets {span.first} to {span.last - 1}" for span in spans]
    return lines[:SHOWN] + ([f"{len(lines) - SHOWN} more partitions"] if len(lines) > SHOWN else [])


def _planned(run: Run, report: Report, command: str) -> outputs.Run:
    left_out = dict(report.left_out)
    return outputs.Run(
        run=run.run,
        operation=run.asked.operation,
        event="planned",
        asked=run.asked,
        spans=run.asked.spans,
        taken=report.taken,
        left_out=left_out,
        counts={"taken": report.taken, **left_out},
        unsendable=[_unsendable(one) for one in report.passed_over],
        left=left(run),
        kinds=dict(report.kinds.most_common()),
        users=dict(report.users.most_common()),
        refused=report.refusal or None,
        command=None if report.refusal else command,
    )


def described(run: Run, *, command: str | None = None) -> outputs.Run:
    """Return a run of the journal as JSON shows it."""
    return outputs.Run(
        run=run.run,
        operation=run.asked.operation,
        event=run.event,
        asked=run.asked,
        spans=run.asked.spans,
        taken=run.counts.get("taken", 0),
        left_out={name: count for name, count in run.counts.items() if name != "taken"},
        counts=run.counts,
        left=left(run),
        command=command,
        who=run.who,
        pid=run.pid,
        started_at=rfc3339(run.started_at),
        at=rfc3339(run.at),
    )


def _unsendable(one: LeftOut) -> outputs.Unsendable:
    return outputs.Unsendable(one.at, f"{one.reason}: {one.why}" if one.why else one.reason)


def _counted(title: str, counter: Counter[str]) -> list[str]:
    if not counter:
        return []
    parts = [f"{name} {count}" for name, count in counter.most_common(SHOWN)]
    more = f" and {len(counter) - SHOWN} more" if len(counter) > SHOWN else ""
    return [f"  {title}: {', '.join(parts)}{more}"]
