"""What a batch of a lane amounts to."""

from collections.abc import Sequence
from typing import Any

from schemas.rows import Mark, Row
from streams.inbox import Incoming, LogState
from streams.producer import Emit


class LogWork:
    """The records that a batch has for one log, and what becomes of them.

    before    the log's state; where the store was `asked`, with the `marks` of its last rows
    rows      what is appended
    head      the log's last seq afterwards
    targeted  whether a record is for one device only
    reminded  whether the sessions are told the head: some of the records had been appended already, by a call that
              seemed to fail or by a worker whose messages were fenced
    """

    __slots__ = (
        "asked", "before", "head", "key", "marks", "messages", "partition", "records", "reminded", "rows", "targeted",
        "user",
    )  # fmt: skip
    before: LogState

    def __init__(self, partition: int, user: str, key: str) -> None:
        self.partition = partition
        self.user = user
        self.key = key
        self.messages: list[Any] = []
        self.records: list[Incoming] = []
        self.asked = False
        self.marks: Sequence[Mark] = ()
        self.rows: list[Row] = []
        self.head = 0
        self.targeted = False
        self.reminded = False


class Work:
    """What a batch amounts to, gathered before anything is done."""

    def __init__(self) -> None:
        self.logs: dict[str, LogWork] = {}  # by user
        self.states: dict[str, LogState] = {}  # of logs, as they are afterwards
        self.emits: list[Emit] = []
        self.merged: list[Emit] = []  # the statuses of entries that are not sent, since later ones replace them
        self.targeted: list[tuple[int, Incoming]] = []  # (partition, record) for one device only
