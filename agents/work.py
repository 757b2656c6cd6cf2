"""What a batch of a lane amounts to."""

from collections import defaultdict
from typing import Any

from schemas.rows import Row
from streams.inbox import Incoming
from streams.producer import Emit


class Work:
    """What a batch amounts to, gathered before anything is done."""

    def __init__(self) -> None:
        self.records: defaultdict[tuple[int, str], list[tuple[Any, Incoming]]] = defaultdict(list)
        self.rows: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
        self.emits: list[Emit] = []
        self.merged: list[Emit] = []  # the statuses of entries that are not sent, since later ones replace them
        self.targeted: list[tuple[int, Incoming]] = []  # (partition, record) for one device only
        # Heads of logs whose records had been appended already, by a call that seemed to fail or by a worker whose
        # messages were fenced: the sessions are reminded, and ask for what they lack.
        self.known: dict[tuple[int, str], int] = {}
