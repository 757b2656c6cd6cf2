"""The journal of replays as a value: how its records are read, and how a run's record goes on. Pure."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from schemas.errors import TocsinError
from schemas.replays import Asked, Letter, Marks, Run, Span
from streams.producer import Emit
from streams.replay import run_name

TOPIC: Final = "replays"
SILENT_MS: Final = 30_000  # after which a run of another machine that says nothing is taken for dead


class ReplayError(TocsinError):
    """A replay cannot begin or go on."""


class UnknownRun(ReplayError):
    """The journal has no such run."""

    exit_code = 2


class Journal(msgspec.Struct, frozen=True):
    """What the journal says: runs by name, and what became of dead letters."""

    runs: dict[str, Run] = {}
    settled: dict[Letter, Marks] = {}

    def run(self, name: str) -> Run:
        """Return a run. Raises `UnknownRun` with the names that come near."""
        if name in self.runs:
            return self.runs[name]
        near = difflib.get_close_matches(name, self.runs, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "`tocsin replay list` shows them"
        raise UnknownRun(f"the journal has no run {name}; {hint}")


def journal_of(latest: Mapping[bytes | None, bytes | None]) -> Journal:
    """Return what the last value of each key says; foreign records are ignored."""
    journal = Journal({}, {})
    for key, value in latest.items():
        if key is None or value is None:
            continue
        kind: type[Run | Marks] = Marks if b"/" in key else Run
        try:
            found = msgspec.json.decode(value, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):  # of a version to come, or written by somebody else
            continue
        if isinstance(found, Run):
            journal.runs[found.run] = found
        else:
            journal.settled.update(dict.fromkeys(found.letters, found))
    return journal


def begun(name: str, asked: Asked, *, who: str, pid: int, now_ms: int) -> Run:
    """Return the first record of a run."""
    return Run(
        run=name,
        event="started",
        asked=asked,
        who=who,
        pid=pid,
        started_at=now_ms,
        at=now_ms,
        next=[span.first for span in asked.spans],
    )


def taken_up(run: Run, *, who: str, pid: int, now_ms: int) -> Run:
    """Return the record of a run that goes on where it stopped."""
    return msgspec.structs.replace(run, event="progress", who=who, pid=pid, at=now_ms)


def advanced(run: Run, span: int, offset: int, counts: Mapping[str, int], now_ms: int, tail: int | None = None) -> Run:
    """Return the record of a run after a batch: everything of a span below `offset` is done.

    `tail` is the offset after what was written for it, None if nothing was, or not to its own partition.
    """
    total = {name: run.counts.get(name, 0) + counts.get(name, 0) for name in sorted(run.counts.keys() | counts.keys())}
    offsets = [offset if number == span else before for number, before in enumerate(run.next)]
    tails = run.tails if tail is None else {**run.tails, span: tail}
    return msgspec.structs.replace(run, event="progress", at=now_ms, next=offsets, counts=total, tails=tails)


def unsure(run: Run) -> tuple[int, int] | None:
    """Return where a run that crashed may have written a batch that it did not note: the span, the first offset.

    Spans are done in order, so only the first that has anything left can be meant; None if none has.
    """
    for number, (span, at) in enumerate(zip(run.asked.spans, run.next, strict=True)):
        if at < span.last:
            return number, run.tails.get(number, span.last)
    return None


def ended(run: Run, *, finished: bool, now_ms: int) -> Run:
    """Return the last record of a run, or of this part of it."""
    if not finished:
        return msgspec.structs.replace(run, event="stopped", at=now_ms)
    return msgspec.structs.replace(run, event="finished", at=now_ms, next=[span.last for span in run.asked.spans])


def earlier(runs: Mapping[str, Run], name: str, asked: Asked) -> list[Run]:
    """Return the other runs that may have redelivered records of the same ranges, in the order in which they began.

    A run that was given a name of its own sends again what others have sent, so it has none before it.
    """
    if asked.operation != "redeliver" or name != run_name(asked):
        return []
    found = [run for run in runs.values() if run.run != name and run.asked.operation == "redeliver"]
    return sorted((run for run in found if _overlap(run.asked, asked)), key=lambda run: run.started_at)


def _overlap(one: Asked, other: Asked) -> bool:
    mine = {(span.topic, span.partition): span for span in one.spans}
    return any(
        (found := mine.get((span.topic, span.partition))) and found.first < span.last and span.first < found.last
        for span in other.spans
    )


def written_after(runs: Sequence[Run], span: Span) -> int | None:
    """Return the offset behind which other runs have written what they sent again of a partition; None: none has."""
    place = (span.topic, span.partition)
    return min((o.last for run in runs for o in run.asked.spans if (o.topic, o.partition) == place), default=None)


def busy(run: Run, *, who: str, alive: Collection[int], now_ms: int) -> bool:
    """Say whether another process seems to be at work on a run; `alive` are the processes of this machine.

    On the machine of `who` (user@host) its process tells, on another one only its silence.
    """
    if run.event in ("stopped", "finished"):
        return False
    if run.who.rpartition("@")[2] == who.rpartition("@")[2]:
        return run.pid in alive
    return now_ms - run.at < SILENT_MS


def run_record(topic: str, run: Run) -> Emit:
    """Return the record of a run for the journal's topic (full name)."""
    return Emit(topic=topic, key=run.run.encode(), value=msgspec.json.encode(run))


def marks_record(topic: str, marks: Marks) -> Emit:
    """Return the record that settles dead letters; the same letters of the same run have the same key."""
    first = marks.letters[0]
    key = f"{marks.run}/{first.partition}:{first.offset}"
    return Emit(topic=topic, key=key.encode(), value=msgspec.json.encode(marks))


def left(run: Run) -> int:
    """Return how many offsets of a run are still to be looked at."""
    return sum(span.last - at for span, at in zip(run.asked.spans, run.next, strict=True))


def latest_first(runs: Mapping[str, Run]) -> Sequence[Run]:
    """Return runs by the time of their last record."""
    return sorted(runs.values(), key=lambda run: run.at, reverse=True)
