"""The history of a run: what was asked, what was answered and what devices saw, in the order in which we learned of it.

A file of JSON lines, only ever added to. Each line is one event, whose `event` names its kind. `at` is seconds since
the history began, by a monotonic clock of one process, so events may be compared with each other; `wall` is ms since
1970. Sessions, logs, ids and codes are those of the protocol. Defaults are left out.

An operation (`op`, a number) is one record that a producer asked Kafka to take. After its `produce` comes one of
`produced` (Kafka has it), `failed` (it does certainly not) and `unknown` (a time-out or a lost connection: it may or
may not have, and may still get it), or nothing if the run ended first, which is the same as `unknown`.
"""

import gzip
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Self, TypeAlias

import msgspec

_BUFFER: Final = 1 << 18  # bytes that are written at once


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    """Something that happened at `at`, s since the history began."""

    at: float


class Produce(Event, frozen=True, tag="produce"):
    """A producer asks Kafka to take a record; `device` and `expires` (wall ms) are those of the notification."""

    op: int
    user: str
    lane: str
    id: str
    wall: int = 0
    device: str = ""
    expires: int = 0
    collapse: str = ""
    poison: bool = False  # not a notification on purpose: it has to become a dead letter


class Produced(Event, frozen=True, tag="produced"):
    """Kafka has the record; `ts` is its append time, wall ms."""

    op: int
    partition: int
    offset: int
    ts: int = 0


class Failed(Event, frozen=True, tag="failed"):
    """Kafka does certainly not have the record."""

    op: int
    error: str = ""


class Unknown(Event, frozen=True, tag="unknown"):
    """Nobody said whether Kafka has the record."""

    op: int
    error: str = ""


class Connected(Event, frozen=True, tag="connected"):
    """A device was welcomed; `heads` are where its logs ended then."""

    user: str
    device: str
    session: str = ""
    epoch: str = ""
    heads: dict[str, int] = {}


class Disconnected(Event, frozen=True, tag="disconnected"):
    """A device lost its connection; `code` is the close code, 0 without one."""

    user: str
    device: str
    code: int = 0


class Entry(Event, frozen=True, tag="entry"):
    """A device received an entry, and showed it if `seq` was beyond its cursor."""

    user: str
    device: str
    log: str
    seq: int
    id: str
    shown: bool = True


class Skip(Event, frozen=True, tag="skip"):
    """A device was told that nothing from `first` to `last` is for it."""

    user: str
    device: str
    log: str
    first: int
    last: int
    reason: str


class Gap(Event, frozen=True, tag="gap"):
    """A device was told that `first` to `last` exist and were not sent."""

    user: str
    device: str
    log: str
    first: int
    last: int


class TooLong(Event, frozen=True, tag="too_long"):
    """A device was told that delivery goes on after `head`, and more than is sent lies before it."""

    user: str
    device: str
    log: str
    head: int


class Reset(Event, frozen=True, tag="reset"):
    """A device was told that its cursor is void and delivery goes on after `head`."""

    user: str
    device: str
    log: str
    head: int


class Synced(Event, frozen=True, tag="synced"):
    """A device was told that its `sync` is done."""

    user: str
    device: str
    log: str
    head: int


class Refused(Event, frozen=True, tag="refused"):
    """A device was told that what it said is an error."""

    user: str
    device: str
    code: str


class Ack(Event, frozen=True, tag="ack"):
    """A device acknowledged a log up to `seq`."""

    user: str
    device: str
    log: str
    seq: int


class Status(Event, frozen=True, tag="status"):
    """What `statuses` said about a notification, read at the end."""

    user: str
    id: str
    state: str
    reason: str = ""


class DeadLetter(Event, frozen=True, tag="dead_letter"):
    """A dead letter, read at the end: where the record lay and why it was refused; `id` if it could be read."""

    topic: str
    partition: int
    offset: int
    reason: str
    id: str = ""
    user: str = ""


class Fault(Event, frozen=True, tag="fault"):
    """A fault begins or ends; one that takes no time (a kill) only begins."""

    name: str
    phase: str = "begin"  # or "end"


class AtEnd(Event, frozen=True, tag="final"):
    """A device at the end of the run: its cursors. Only a device that has one is held to have got everything.

    `late`: it came for the first time after others of its user, so its logs may begin after what they acknowledged.
    """

    user: str
    device: str
    cursors: dict[str, int] = {}
    late: bool = False


AnyEvent: TypeAlias = (
    Produce | Produced | Failed | Unknown | Connected | Disconnected | Entry | Skip | Gap | TooLong | Reset | Synced
    | Refused | Ack | Status | DeadLetter | Fault | AtEnd
)  # fmt: skip

_decode = msgspec.json.Decoder(AnyEvent).decode


class History:
    """Writes a history; also a context that closes it. `clock` gives seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.count = 0
        self._clock = clock
        self._begin = clock()
        self._encode = msgspec.json.Encoder().encode
        self._file = path.open("wb", buffering=_BUFFER)

    def now(self) -> float:
        """Return the seconds since the history began, to the µs."""
        return round(self._clock() - self._begin, 6)

    def add(self, event: AnyEvent) -> None:
        """Add an event; it is in the file after `flush` or `close`."""
        self._file.write(self._encode(event) + b"\n")
        self.count += 1

    def flush(self) -> None:
        """Hand what was added to the file."""
        self._file.flush()

    def close(self) -> None:
        """End the history."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write(path: Path, events: Iterable[AnyEvent]) -> Path:
    """Write events as a history and return its path."""
    with History(path) as history:
        for event in events:
            history.add(event)
    return path


def read(path: Path) -> Iterator[AnyEvent]:
    """Give the events of a history one by one; also of a `.gz`. Raises `msgspec.MsgspecError`."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            yield _decode(line)
