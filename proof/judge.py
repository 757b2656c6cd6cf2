"""The judge: asks porcupine, a checker of linearizability that others wrote, whether the logs of a history are logs.

It looks from another side than `proof.checker`: an operation that Kafka acknowledged is an append that happened between
its request and its answer, an entry that a device received is a read of one position at that moment, and for each log
there must be one order of all of them that explains every read. The Go program is built once, into the cache.
"""

import hashlib
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from proof.history import AnyEvent, Connected, DeadLetter, Entry, Failed, Produce, Produced, Status, read
from schemas.errors import TocsinError
from stack.jars import cache

LINEARIZABLE: Final = "linearizable"
ILLEGAL: Final = "illegal"
UNDECIDED: Final = "unknown"

_SOURCE: Final = Path(__file__).with_name("porcupine")
_BOUND: Final = 1_000  # positions of a log that are looked at: the search may be long
_WITHIN: Final = 20.0  # s for one log
_BUILD_WITHIN: Final = 300.0  # s
_NEVER: Final = -1
_REPLAY: Final = "replay:"  # how the ids of what `tocsin replay` sends again begin


class JudgeFailed(TocsinError):
    """The judge could not be built or run."""


class Verdict(msgspec.Struct, frozen=True):
    """`linearizable`, `illegal`, `unknown` (time was up) or `not asked`; `message` names the logs that are not."""

    verdict: str
    message: str = ""
    logs: int = 0


NOT_ASKED: Final = Verdict("not asked")


class Operation(msgspec.Struct, frozen=True):
    """What the Go program reads; times in ns, a return of -1 is never."""

    kind: str
    id: str
    position: int
    call: int
    return_: int = msgspec.field(name="return")


def available() -> bool:
    """Return whether Go is installed."""
    return shutil.which("go") is not None


def judge(history: Path) -> Verdict:
    """Return the verdict about a history file. Raises `JudgeFailed`."""
    return judge_logs(operations(read(history)))


def judge_logs(logs: dict[str, list[Operation]]) -> Verdict:
    """Return the verdict about operations by log. Raises `JudgeFailed`."""
    verdicts = _run({"within": _WITHIN, "logs": logs})
    for bad in (ILLEGAL, UNDECIDED):
        if wrong := sorted(log for log, verdict in verdicts.items() if verdict == bad):
            why = "no order of its operations explains what was read" if bad == ILLEGAL else "time was up"
            return Verdict(bad, f"{wrong[0]} and {len(wrong) - 1} more of {len(verdicts)}: {why}", len(verdicts))
    return Verdict(LINEARIZABLE, logs=len(verdicts))


def operations(events: Iterable[AnyEvent], bound: int = _BOUND) -> dict[str, list[Operation]]:
    """Return the operations of each log, up to position `bound`; what certainly failed is left out.

    A log of each epoch of the store is a log of its own. What nobody read is kept only in a log that is looked at as a
    whole: else nobody knows where it lies, and something lies at each place up to `bound` that nobody read. A record
    that became a status or a dead letter may have been appended or not, as one of unknown end may. What an operator
    sent again is an append that nobody saw the beginning of.
    """
    met = _Met()
    for event in events:
        met.feed(event)
    return {
        f"{user}/{log}": _bounded(met.appends(user, log, {entry.id for entry in entries}), entries, bound)
        for (_, user, log), entries in met.reads.items()
    }


class _Met:
    """What a history says about operations."""

    def __init__(self) -> None:
        self.reads: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)  # by (epoch, user, log)
        self._asked: dict[tuple[str, str], list[Produce]] = defaultdict(list)  # by (user, log)
        self._taken: dict[int, Produced] = {}
        self._failed: set[int] = set()
        self._epochs: dict[tuple[str, str], str] = {}  # by (user, device)
        self._ended: set[tuple[str, str]] = set()  # (user, id) of statuses that stand for the entry
        self._letters: set[tuple[str, int, int]] = set()

    def feed(self, event: AnyEvent) -> None:
        match event:
            case Produce(poison=False):
                self._asked[event.user, f"inbox/{event.lane}"].append(event)
            case Produced():
                self._taken[event.op] = event
            case Failed():
                self._failed.add(event.op)
            case Connected():
                self._epochs[event.user, event.device] = event.epoch
            case Entry():
                epoch = self._epochs.get((event.user, event.device), "")
                self.reads[epoch, event.user, event.log].append(event)
            case Status() if event.state != "queued":
                self._ended.add((event.user, event.id))
            case DeadLetter():
                self._letters.add((event.topic, event.partition, event.offset))

    def appends(self, user: str, log: str, read: set[str]) -> list[Operation]:
        """Return the appends to a log, also those that may not have been; `read`: the ids that somebody read there."""
        asked = [produce for produce in self._asked[user, log] if produce.op not in self._failed]
        again = sorted(id_ for id_ in read if id_.startswith(_REPLAY))
        return [
            *(Operation("append", produce.id, 0, _ns(produce.at), self._end(produce)) for produce in asked),
            *(Operation("append", id_, 0, 0, _NEVER) for id_ in again),
        ]

    def _end(self, produce: Produce) -> int:
        if produce.op not in self._taken or self._is_ended(produce):
            return _NEVER
        return _ns(self._taken[produce.op].at)

    def _is_ended(self, produce: Produce) -> bool:
        taken = self._taken.get(produce.op)
        place = (f"notifications.{produce.lane}", taken.partition, taken.offset) if taken else None
        return (produce.user, produce.id) in self._ended or place in self._letters


def _bounded(appends: list[Operation], entries: list[Entry], bound: int) -> list[Operation]:
    seen = [Operation("read", entry.id, entry.seq, _ns(entry.at), _ns(entry.at)) for entry in entries]
    if max((read.position for read in seen), default=0) <= bound:
        return [*appends, *seen]
    kept = [read for read in seen if read.position <= bound]
    ids = {read.id for read in kept}
    unread = sorted(set(range(1, bound + 1)) - {read.position for read in kept})
    return [
        *(append for append in appends if append.id in ids),
        *(Operation("append", f"unread at {position}", 0, 0, _NEVER) for position in unread),
        *kept,
    ]


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _run(task: dict[str, Any]) -> dict[str, str]:
    program = build()
    done = subprocess.run([program], input=msgspec.json.encode(task), capture_output=True, check=False)  # noqa: S603 - our own program
    if done.returncode != 0:
        raise JudgeFailed(f"the judge failed: {done.stderr.decode(errors='replace').strip()}")
    return msgspec.json.decode(done.stdout, type=dict[str, str])


def build() -> Path:
    """Return the judge's program, built first if the cache does not have it. Raises `JudgeFailed`."""
    sources = [*sorted(_SOURCE.glob("*.go")), _SOURCE / "go.mod", _SOURCE / "go.sum"]
    mark = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    program = cache() / f"judge-{mark}"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        raise JudgeFailed("the judge needs Go: install it (apt-get install golang-go)")
    cache().mkdir(parents=True, exist_ok=True)
    unfinished = program.with_name(f".{program.name}.{os.getpid()}")
    command = [go, "build", "-o", str(unfinished), "."]
    done = subprocess.run(  # noqa: S603 - no shell, and Go from the path
        command, cwd=_SOURCE, env={**os.environ, "GOTOOLCHAIN": "local"}, capture_output=True, check=False,
        timeout=_BUILD_WITHIN,
    )  # fmt: skip
    if done.returncode != 0:
        raise JudgeFailed(f"the judge cannot be built: {done.stderr.decode(errors='replace').strip()}")
    unfinished.replace(program)
    return program
