"""What a batch of a lane amounts to."""

from collections.abc import Sequence
from typing import Any

from schemas.rows import Mark, Row
from streams.inbox import Incoming, LogState
from streams.producer import Emit


class LogWork:
    """The records that a batch has for one log, and what becomes of them.

    before    the log's state; where the store was `asked`, with the `marks` of its last rows
    after     the log's state when the records have been judged
    rows      what is appended
    reminded  whether the sessions are told the head: some of the records had been appended already, by a call that
              seemed to fail or by a worker whose messages were fenced
    """

    __slots__ = (
        "after", "asked", "before", "key", "marks", "messages", "partition", "records", "reminded", "rows", "user",
    )  # fmt: skip
    before: LogState
    after: LogState

    def __init__(self, partition: int, user: str, key: str) -> None:
        self.partition = partition
        self.user = user
        self.key = key
        self.messages: list[Any] = []
        self.records: list[Incoming] = []
        self.asked = False
        self.marks: Sequence[Mark] = ()
        self.rows: list[Row] = []
        self.reminded = False


class Work:
    """What a batch amounts to, gathered before anything is done."""

    def __init__(self) -> None:
        self.logs: dict[str, LogWork] = {}  # by user
        self.emits: list[Emit] = []
        self.merged: list[Emit] = []  # the statuses of entries that are not sent, since later ones replace them
        self.targeted: list[tuple[int, Incoming]] = []  # (partition, record) for one device only
