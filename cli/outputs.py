"""What `--json` prints, one type per command: the documented shapes, from which `tocsin docs` makes their schemas.

A command that answers once prints one document on one line; a list is an array. `send`, `listen` and `lag --watch` go
on, and print one document per line. Times are RFC 3339 in UTC with milliseconds, durations are seconds.
"""

from typing import Any, Literal

import msgspec

from schemas.frames import NotificationFrame, rfc3339
from schemas.replays import Asked, Span
from streams.topics_plan import Change

Time = str  # RFC 3339
Level = Literal["ok", "warn", "FAIL"]


class Setting(msgspec.Struct, frozen=True):
    """A setting of `config`; `value` is null where `hidden` says that it holds a secret."""

    value: Any
    default: Any
    help: str
    hidden: bool = False


class Sent(msgspec.Struct, frozen=True):
    """A notification of `send` that Kafka has, and where it lies."""

    id: str
    topic: str
    partition: int
    offset: int
    time: Time


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of `replay` or `dlq`, planned or as the journal has it.

    `event` is `planned` where nothing was done yet; `who`, `pid` and the times are null then. `taken` counts records
    that are taken, `left_out` those that are not, by reason, and `counts` has both. `kinds` and `users` are counted in
    a plan only. `unsendable` names dead letters that cannot go back, the first thousand. `refused` says why the run
    would not begin. `command` does the run, or goes on with it; null: it is finished. `left` counts the offsets that
    are still to be looked at. `seconds` is how long this command took to do it.
    """

    run: str
    operation: str
    event: Literal["planned", "started", "progress", "stopped", "finished"]
    asked: Asked
    spans: list[Span]
    taken: int
    left_out: dict[str, int]
    counts: dict[str, int]
    left: int
    unsendable: list["Unsendable"] = []
    kinds: dict[str, int] = {}
    users: dict[str, int] = {}
    refused: str | None = None
    command: str | None = None
    who: str | None = None
    pid: int | None = None
    started_at: Time | None = None
    at: Time | None = None
    seconds: float | None = None


class Unsendable(msgspec.Struct, frozen=True):
    """A dead letter that cannot go back: where it lies, `partition:offset`, and why."""

    at: str
    reason: str


class Letters(msgspec.Struct, frozen=True):
    """Dead letters of one reason from one topic, for `dlq ls`; the times of the first and the last."""

    reason: str
    topic: str
    count: int
    first: Time
    last: Time


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter of `dlq show`: `value` is null without `--value`; `settled` says what became of it."""

    at: str
    time: Time
    key: str | None
    headers: dict[str, str | None]
    bytes: int
    value: str | None = None
    settled: str | None = None


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """How far a group is behind in one partition; offsets are Kafka's.

    `committed` is null where the group has committed nothing, `owner` where no worker has the partition. `oldest` is
    when the first record that is not processed was appended, `behind` how long ago that is. `lost` counts the records
    that Kafka deleted before they were processed.
    """

    topic: str
    partition: int
    first: int
    end: int
    committed: int | None
    lag: int
    lost: int
    behind: float
    oldest: Time | None = None
    owner: str | None = None


class Lag(msgspec.Struct, frozen=True):
    """How far the workers of a role are behind; `state` is empty where the broker does not say it."""

    group: str
    state: str
    lag: int
    behind: float
    partitions: list[Partition]


class Session(msgspec.Struct, frozen=True):
    """A session as its gateway sees it; `heads` is the last seq handed on by log, `waiting` bytes not yet sent."""

    session: str
    device: str
    transport: str
    since: Time
    heads: dict[str, int]
    waiting: int


class Sessions(msgspec.Struct, frozen=True):
    """The sessions of a user by gateway, or those that `kick` ended; the `silent` gateways did not answer."""

    gateways: dict[str, list[Session]]
    silent: list[str]


class Revoked(msgspec.Struct, frozen=True):
    """What `revoke` wrote: tokens of `user`, or the one `token`; after `until` it may be forgotten."""

    at: Time
    until: Time
    user: str | None
    token: str | None


class Finding(msgspec.Struct, frozen=True):
    """One line of `doctor`: what was looked at, how it is, and what to do about it (empty: nothing)."""

    check: str
    level: Level
    text: str
    advice: str = ""

    def line(self) -> str:
        """Return it for people."""
        return f"{self.level:<4}  {self.check}: {self.text}" + (f"; {self.advice}" if self.advice else "")


class Examination(msgspec.Struct, frozen=True):
    """All that `doctor` found, and how many of it are failures and warnings."""

    findings: list[Finding]
    failures: int
    warnings: int


class Migrations(msgspec.Struct, frozen=True):
    """The migrations of the store that are not applied, in order."""

    pending: list[str]


class Migrated(msgspec.Struct, frozen=True):
    """The migrations that were applied, in order."""

    applied: list[str]


class Entry(NotificationFrame, frozen=True, kw_only=True, omit_defaults=True, tag="notification"):
    """An entry of `listen`: the frame that the gateway sent, and how long after Kafka took it."""

    latency_ms: float


class TopicsPlan(msgspec.Struct, frozen=True):
    """What `topics apply` would do, and the same as lines; `store_behind`: the store lacks migrations."""

    verdict: Literal["equal", "pending", "refused"]
    store_behind: bool
    changes: list[Change]
    lines: list[str]


class TopicsApplied(msgspec.Struct, frozen=True):
    """What `topics apply` did, the same as lines, and what it could not do."""

    changes: list[Change]
    lines: list[str]
    warnings: list[str]


def time_of(ms: float) -> Time:
    """Return milliseconds since 1970 as a time."""
    return rfc3339(round(ms))
