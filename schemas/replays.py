"""The journal of replays: what operators asked for, how far it came, and which dead letters are settled by it.

Both are JSON in the compacted topic `replays`: a run under its name, marks under `{run}/{partition}:{first offset}`.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Operation = Literal["redeliver", "rebuild", "redrive", "drop"]
Event = Literal["started", "progress", "stopped", "finished"]
RunName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="also the record's key")]
Millis = Annotated[int, Meta(description="ms since 1970")]

REPLAY_ID: Final = "replay"  # how the ids of redelivered notifications begin


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Records of one partition with first <= offset < last; the topic is without the prefix."""

    topic: str
    partition: int
    first: int
    last: int


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run does. Empty lists select everything; `limit` 0 is none."""

    operation: Operation
    spans: list[Span]
    users: list[str] = []
    kinds: list[str] = []
    keys: list[str] = []
    reasons: list[str] = []
    topics: list[str] = []  # of dead letters: the topics they came from
    limit: int = 0
    again: bool = False  # redeliver also what was read
    settled: bool = False  # take also letters that were redriven or dropped before
    new_epoch: bool = False


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run as it stands: who asked for what, and the next offset of each span of `asked`, in their order."""

    run: RunName
    event: Event
    asked: Asked
    who: str  # user@host
    pid: int
    started_at: Millis
    at: Millis
    next: list[int]
    tails: dict[int, int] = {}  # of redeliver: by the number of a span, the offset after what was written for it
    counts: dict[str, int] = {}  # records that were taken, and those that were left out, by reason
    v: Literal[1] = 1


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """Where a dead letter lies, and when Kafka took it (ms)."""

    partition: int
    offset: int
    ts: int


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters that need no more attention, because they were redriven or dropped."""

    run: RunName
    outcome: Literal["redriven", "dropped"]
    letters: list[Letter]
    v: Literal[1] = 1
