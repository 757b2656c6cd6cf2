"""What each kind of replay does with a page of records: judges them, and performs what it takes."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from cli.replay.entries import rows_of
from cli.replay.journal import Book
from schemas.logs import inbox_log, log_key
from schemas.replays import REPLAY_ID, Asked, Letter, Marks
from schemas.rows import Append
from store.port import Store
from streams.halving import spared
from streams.producer import BatchProducer, Emit
from streams.replay import (
    Candidate,
    LeftOut,
    Source,
    candidate,
    is_read,
    letter_chosen,
    letter_of,
    name_of,
    redelivered,
    redriven,
    replay_id,
    user_of,
)
from streams.replay_journal import Journal

_REPLAYED: Final = f"{REPLAY_ID}:".encode()


class Taken(msgspec.Struct, frozen=True):
    """A record that is taken: whose it is, of which kind (of a letter: its reason), and what is done for it."""

    user: str
    kind: str
    work: Any = None


Judged = Taken | LeftOut | None


class Performed(msgspec.Struct, frozen=True):
    """What came of records that were taken.

    `tail` is the offset after what was written, if that went to the partition that the page is of. `refused` are those
    that Kafka did not take.
    """

    tail: int | None = None
    refused: list[LeftOut] = []


class Step(Protocol):
    """One kind of replay."""

    async def judge(self, page: Sequence[Any]) -> list[Judged]:
        """Return what becomes of each record of a page of one partition; changes nothing outside."""

    async def perform(self, taken: Sequence[Taken]) -> "Performed":
        """Do it, and return when it is durable; doing it again changes nothing."""


class Redeliver:
    """Entries are sent again, as new records of their lane."""

    def __init__(
        self,
        run: str,
        asked: Asked,
        source: Source,
        lane: str,
        store: Store,
        producer: BatchProducer,
        earlier: Sequence[str] = (),
    ) -> None:
        """Begin; `earlier` are the runs whose records are not sent once more."""
        self._run = run
        self._earlier = earlier
        self._asked = asked
        self._source = source
        self._log = inbox_log(lane)
        self._store = store
        self._producer = producer
        self._written: set[str] = set()

    async def recall(self, pages: AsyncIterator[list[Any]]) -> None:
        """Take note of what this run, before it crashed, and earlier runs have written; it is not written again.

        The inbox would recognise it, but only as long as it is among the last 256 entries of its log.
        """
        begins = tuple(replay_id(run, "") for run in (self._run, *self._earlier))
        async for page in pages:
            names = (name_of(message.value) for message in page if _REPLAYED in (message.value or b""))
            self._written.update(name for name in names if name.startswith(begins))

    async def judge(self, page: Sequence[Any]) -> list[Judged]:
        """Leave out what never became an entry, and what every device has read."""
        now = round(time.time() * 1000)
        judged = [candidate(message, self._source, self._asked, now) for message in page]
        found = [one for one in judged if isinstance(one, Candidate)]
        wanted: dict[str, list[int]] = {}
        for one in found:
            wanted.setdefault(log_key(self._log, one.record.notification.user), []).append(one.record.src)
        rows = await rows_of(self._store, wanted) if wanted else {}
        cursors = await self._store.get_cursors(sorted({one.record.notification.user for one in found}))
        return [self._judged(one, rows, cursors) if isinstance(one, Candidate) else one for one in judged]

    def _judged(self, one: Candidate, rows: Mapping[Any, Any], cursors: Mapping[str, Any]) -> Judged:
        note = one.record.notification
        row = rows.get((log_key(self._log, note.user), one.record.src))
        if row is None:
            return LeftOut("no_entry")
        if not self._asked.again and is_read(row, self._log, cursors[note.user]):
            return LeftOut("read")
        if any(replay_id(run, one.record.id) in self._written for run in self._earlier):
            return LeftOut("redelivered")
        emit = redelivered(self._run, self._source, one)
        if isinstance(emit, LeftOut):
            return emit
        return Taken(note.user, note.kind, None if replay_id(self._run, one.record.id) in self._written else emit)

    async def perform(self, taken: Sequence[Taken]) -> Performed:
        """Write the new records."""
        emits = [one.work for one in taken if one.work]
        if not emits:
            return Performed()
        written = await self._producer.write_runs({(self._source.topic, emits[0].partition): emits})
        return Performed(max(run.offset + run.count for run in written))


class Settle:
    """Dead letters are sent back to where they came from, or only marked as dropped."""

    def __init__(
        self,
        run: str,
        asked: Asked,
        prefix: str,
        sources: Mapping[str, Source],
        journal: Journal,
        book: Book,
        producer: BatchProducer,
    ) -> None:
        self._run = run
        self._asked = asked
        self._prefix = prefix
        self._sources = sources
        self._settled = journal.settled
        self._book = book
        self._producer = producer

    async def judge(self, page: Sequence[Any]) -> list[Judged]:
        """Leave out what is settled already and what does not say where it came from."""
        return [self._judged(message) for message in page]

    def _judged(self, message: Any) -> Judged:
        letter = letter_of(message)
        if not letter_chosen(message, letter, self._asked, self._prefix):
            return None
        place = Letter(message.partition, message.offset, message.timestamp)
        if place in self._settled and not self._asked.settled:
            return LeftOut("settled")
        emit: Emit | LeftOut | None = None
        if self._asked.operation == "redrive":
            emit = redriven(message, letter, self._sources)
        if isinstance(emit, LeftOut):
            return emit
        return Taken(user_of(message), letter.reason, (place, emit))

    async def perform(self, taken: Sequence[Taken]) -> Performed:
        """Write the records where they belong, and then that the letters are settled; pass over what Kafka refuses."""
        refused = await self._send_back([one.work for one in taken if one.work[1] is not None])
        letters = [place for place, _ in (one.work for one in taken) if place not in refused]
        redrive = self._asked.operation == "redrive"
        if letters:
            await self._book.settle(Marks(run=self._run, outcome="redriven" if redrive else "dropped", letters=letters))
        return Performed(refused=list(refused.values()))

    async def _send_back(self, work: Sequence[tuple[Letter, Emit]]) -> dict[Letter, LeftOut]:
        """Write records; return those that Kafka refuses for what they are."""
        refused: dict[Letter, LeftOut] = {}

        def leave_out(one: tuple[Letter, Emit], why: Exception) -> None:
            place, emit = one
            refused[place] = LeftOut("refused", f"{place.partition}:{place.offset}", f"{emit.topic}: {why}")

        await spared(work, lambda some: self._producer.emit([emit for _, emit in some]), leave_out)
        return refused


def appends(taken: Sequence[Taken], epochs: Mapping[int, int]) -> list[Append]:
    """Return the rows of a page by log, for the store."""
    by_log: dict[tuple[int, str], list[Any]] = {}
    for one in taken:
        partition, log, row = one.work
        by_log.setdefault((partition, log), []).append(row)
    return [Append(log=log, epoch=epochs[partition], rows=rows) for (partition, log), rows in by_log.items()]
