"""`tocsin replay rebuild`: the store made again from the log, by the same rule that made it the first time.

Rows are only added after the heads of their logs. Those that are there are compared with their records and stay as they
are; they are written again under the epoch of the rebuild, as a worker does with what it takes for judged.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    for_code,
)

from agents.takeover import Wanted, heads_of
from cli.replay.entries import rows_of
from cli.replay.steps import Judged, Performed, Taken, appends
from schemas.errors import BadRecord
from schemas.ids import source_parts
from schemas.logs import inbox_log, log_key
from schemas.replays import Asked, Span
from schemas.rows import RECENT, Head, Row
from store.port import Store
from streams.inbox import Appended, Incoming, Limited, anchored, fold
from streams.limits import Limit
from streams.partitions import home_partition
from streams.replay import LeftOut, Source, chosen, read_record
from streams.replay_journal import ReplayError

ROLE: Final = "inbox"
COORDINATOR: Final = 20.0  # s in which the broker has to know the group
PASSING: Final = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)
QUIET: Final = ("Empty", "Dead")  # states of a group without members
SURVEYED: Final = 5_000  # logs whose state a survey remembers; of the others it counts a repeat as a row

# Why a record makes no row. `differs` and `lost` mean that the store is not what the log says.
REBUILD_LEFT_OUT: Final = {
    "dead_letter": "it cannot be processed and lies in dead-letters",
    "moved": "it was sent on to its home partition and counts there",
    "there": "its row is in the store",
    "differs": "its row in the store has other content",
    "lost": "the store has later rows of its log, but not this one",
    "no_row": "the store has later rows of its log: it was a repeat, a conflict or expired, or its row is lost",
    "refused": "a repeat, a conflict, or expired when Kafka took it",
}


class Rebuild:
    """Folds the records of one lane again. A survey (`epochs` is None) writes nothing and remembers what it would."""

    def __init__(
        self,
        asked: Asked,
        source: Source,
        lane: str,
        store: Store,
        *,
        limit: Limit | None,
        epochs: Mapping[int, int] | None = None,
    ) -> None:
        self._asked = asked
        self._source = source
        self._log = inbox_log(lane)
        self._store = store
        self._limit = limit
        self._epochs = epochs
        self._surveyed: OrderedDict[str, Head] = OrderedDict()
        self.reached: dict[int, int] = {}  # by partition: the last offset whose row the store has

    async def judge(self, page: Sequence[Any]) -> list[Judged]:
        """Fold the records of a page, log by log."""
        judged: list[Judged] = [None] * len(page)
        by_log: dict[str, list[tuple[int, Incoming]]] = {}
        for number, message in enumerate(page):
            found = self._record(message)
            if isinstance(found, Incoming):
                by_log.setdefault(log_key(self._log, found.notification.user), []).append((number, found))
            else:
                judged[number] = found
        heads = await self._heads(page[0].partition, by_log)
        for log, head in heads.items():
            self._reach(page[0].partition, head)
            for number, verdict in self._folded(page[0].partition, log, head, by_log[log]):
                judged[number] = verdict
        old = {log: [(n, r) for n, r in found if r.src <= heads[log].src] for log, found in by_log.items()}
        for number, verdict in await self._compared({log: found for log, found in old.items() if found}):
            judged[number] = verdict
        return judged

    async def _heads(self, partition: int, by_log: Mapping[str, Sequence[tuple[int, Incoming]]]) -> Mapping[str, Head]:
        """Return the heads of logs; what is there already is made this epoch's own, as an owner does."""
        if self._epochs is None:
            return await self._store.heads(list(by_log))
        epoch = self._epochs[partition]
        return await heads_of(
            self._store, {log: Wanted(epoch, [record for _, record in found]) for log, found in by_log.items()}
        )

    def _record(self, message: Any) -> Incoming | LeftOut | None:
        try:
            record = read_record(message, self._source)
        except BadRecord:
            return LeftOut("dead_letter") if not self._asked.users else None
        if not chosen(record, self._asked):
            return None
        home = home_partition(message.key, self._source.partitions)
        return record if home == message.partition else LeftOut("moved")

    def _reach(self, partition: int, head: Head) -> None:
        incarnation, offset = source_parts(head.src)
        if head.seq and incarnation == self._source.incarnation:
            self.reached[partition] = max(offset, self.reached.get(partition, -1))

    def _folded(
        self, partition: int, log: str, stored: Head, records: Sequence[tuple[int, Incoming]]
    ) -> list[tuple[int, Judged]]:
        """Judge what lies after the head."""
        head = self._surveyed.get(log, stored) if self._epochs is None else stored
        new = [(number, record) for number, record in records if record.src > stored.src]
        _, verdicts = fold(anchored(0, head), head.recent, [record for _, record in new], self._log, self._limit)
        rows = [verdict.row for verdict in verdicts if isinstance(verdict, Appended | Limited)]
        if rows and self._epochs is None:
            self._remember(log, head, rows)
        judged: list[tuple[int, Judged]] = []
        for (number, record), verdict in zip(new, verdicts, strict=True):
            note = record.notification
            if isinstance(verdict, Appended | Limited):
                judged.append((number, Taken(note.user, note.kind, (partition, log, verdict.row))))
            else:
                judged.append((number, LeftOut("refused")))
        return judged

    def _remember(self, log: str, head: Head, rows: Sequence[Row]) -> None:
        marks = (*(row.mark() for row in reversed(rows)), *head.recent)[:RECENT]
        self._surveyed[log] = rows[-1].head(marks)
        self._surveyed.move_to_end(log)
        if len(self._surveyed) > SURVEYED:
            self._surveyed.popitem(last=False)

    async def _compared(self, old: Mapping[str, Sequence[tuple[int, Incoming]]]) -> list[tuple[int, Judged]]:
        """Compare records at or before the heads of their logs with their rows."""
        if not old:
            return []
        rows = await rows_of(self._store, {log: [record.src for _, record in found] for log, found in old.items()})
        return [(n, LeftOut(_compared(r, rows.get((log, r.src))))) for log, found in old.items() for n, r in found]

    async def perform(self, taken: Sequence[Taken]) -> Performed:
        """Append the rows."""
        await self._store.append(appends(taken, self._epochs or {}))
        return Performed()


def _compared(record: Incoming, row: Row | None) -> str:
    if row is not None:
        same = (row.key, row.digest, row.ts) == (record.key, record.digest, record.ts)
        return "there" if same else "differs"
    may_be_refused = record.key or record.notification.expires_at is not None
    return "no_row" if may_be_refused else "lost"


def beyond_reach(spans: Sequence[Span], reached: Mapping[tuple[str, int], int]) -> Span | None:
    """Return a span that begins after records of which the store has nothing, None if there is none.

    A store loses its end (it is new, or of a backup), not single logs. So where any log of a partition has the row of
    an offset, all logs have theirs up to there.
    """
    for span in spans:
        if span.first > 0 and reached.get((span.topic, span.partition), -1) < span.first - 1:
            return span
    return None


async def require_quiet(client: AIOKafkaAdminClient, group: str) -> None:
    """Raise `ReplayError` if workers are in the group: they would write the same logs."""
    described = await _described(client, group)
    if described["state"] not in QUIET:
        raise ReplayError(
            f"the group {group} is {described['state']} with {len(described['members'])} members: stop the workers, "
            "since the store can be rebuilt only while nobody else writes it"
        )


async def _described(client: AIOKafkaAdminClient, group: str) -> dict[str, Any]:
    """Ask until there is an answer: a broker on which there was no group yet makes its topic of groups first."""
    end = time.monotonic() + COORDINATOR
    while True:
        try:
            (answer,) = await client.describe_consumer_groups([group])
            found: dict[str, Any] = answer.to_object()["groups"][0]
            if found["error_code"]:
                raise for_code(found["error_code"])
        except PASSING:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)
        else:
            return found


async def claimed(store: Store, partitions: Sequence[int], owner: str) -> dict[int, int]:
    """Become the writer of partitions and return their epochs."""
    return {partition: await store.claim(ROLE, partition, owner) for partition in partitions}
