"""Workers with one protection switched off, each by a patch from outside: nothing of it is in the product.

The docstring of a mutant says what it does wrong. `tests/faults/test_mutations.py` tells a story to each.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

import agents.inbox
import streams.inbox
from agents.cursors import CursorWriter
from agents.inbox import InboxAgent
from agents.publisher import Publisher
from schemas.logs import LANES
from store.cassandra import CassandraStore
from store.sqlite import SqliteStore
from streams.progress import Admission, Progress
from streams.runner import Batch, Runner
from streams.turnstile import Turnstile
from tables.kept import UNKNOWN
from tables.logs import LogTable


def patch(owner: Any, name: str, by: Any) -> None:
    """Put something else in the place of a function."""
    setattr(owner, name, by)


def acked_first() -> None:
    """A worker acks and commits a batch before its effects."""
    as_it_should_be = Runner._run

    async def run(self: Any, messages: list[Any]) -> None:
        if self._name not in LANES:
            await as_it_should_be(self, messages)
            return
        consumer = self._consumer
        batch = Batch(messages, consumer.assignment_epoch)
        consumer.track(messages)
        consumer.ack_all(messages, batch.epoch)
        await consumer.commit()
        await self._done(0, messages, batch.epoch, lambda: self._handler(batch))

    patch(Runner, "_run", run)


class _Later:
    """Stands for something whose one method is put off until `now`."""

    def __init__(self, real: Any, method: str) -> None:
        self._real, self._method, self._given = real, method, ()
        setattr(self, method, self._keep)

    async def _keep(self, *given: Any) -> None:
        self._given = given

    async def now(self) -> None:
        await getattr(self._real, self._method)(*self._given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def marked_first() -> None:
    """A worker marks its table before it appends and publishes, and believes what it says was judged.

    Marking first alone does no harm: what the table says was judged is compared with the rows.
    """
    patch(agents.inbox, "needs_rows", lambda *_: False)
    handle = InboxAgent.handle

    async def marking(self: Any, batch: Batch) -> None:
        store, publisher = self._store, self._publisher
        self._store, self._publisher = appends, publishes = _Later(store, "append"), _Later(publisher, "publish")
        try:
            await handle(self, batch)
        finally:
            self._store, self._publisher = store, publisher
        await appends.now()
        await publishes.now()

    patch(InboxAgent, "handle", marking)


def old_epochs_believed() -> None:
    """A worker keeps its table when its partitions go to another, and believes it under any epoch."""

    def get(self: Any, log: str, epoch: int) -> Any:
        state = self._kept.get(log)
        return None if state is UNKNOWN else msgspec.structs.replace(state, epoch=epoch)

    patch(LogTable, "get", get)
    patch(LogTable, "clear", lambda _self: None)


def rows_without_epoch() -> None:
    """The last who writes a row or a head wins, whoever owns the partition."""

    def late(kind: Any) -> None:
        append = kind.append

        async def appending(self: Any, batches: Any) -> None:
            now = time.time_ns() // 1000
            await append(self, [msgspec.structs.replace(batch, epoch=now) for batch in batches])

        kind.append = appending

    late(CassandraStore)
    late(SqliteStore)


def known_not_written_again() -> None:
    """A worker leaves what former owners have judged under their epochs."""

    async def rewrite(_self: Any, _rewrites: Any) -> None:
        return

    patch(CassandraStore, "rewrite", rewrite)
    patch(SqliteStore, "rewrite", rewrite)


def committed_ahead() -> None:
    """A worker commits what was delivered to its agents, whether it is acked or not."""

    def committable(self: Any) -> int | None:
        return self.wanted if self.wanted != self.committed else None

    patch(Progress, "committable", committable)


def holes_believed() -> None:
    """A consumer takes a hole between two fetches for compaction, as Faust does."""
    admit = Progress.admit

    def admitting(self: Any, offset: int) -> Admission:
        if self.wanted is not None and offset > self.wanted:
            self.wanted = offset
        return admit(self, offset)

    patch(Progress, "admit", admitting)


def looked_up_first() -> None:
    """A worker looks a user's sessions up before it appends, and registers sessions meanwhile (no turnstile)."""
    handle = InboxAgent.handle

    class Before:
        def __init__(self, table: Any, messages: Sequence[Any]) -> None:
            self._found = {(m.partition, m.key.decode()): table.get(m.partition, m.key.decode()) for m in messages}

        def get(self, partition: int, user: str) -> Any:
            return self._found[partition, user]

    async def handling(self: Any, batch: Batch) -> None:
        table = self._connections
        self._connections = Before(table, batch.messages)
        try:
            await handle(self, batch)
        finally:
            self._connections = table

    @asynccontextmanager
    async def turn(self: Any, priority: int) -> Any:
        yield

    patch(InboxAgent, "handle", handling)
    patch(Turnstile, "turn", turn)


def cursors_acked_first() -> None:
    """A worker acks the records of cursors before the store has them."""

    async def flushed(self: Any) -> None:
        if self._flush is None:
            self._flush = asyncio.create_task(self._write())

    patch(CursorWriter, "flushed", flushed)


def repeats_taken() -> None:
    """A worker does not recognise a producer's id."""
    incoming = streams.inbox.incoming

    def forgetful(**record: Any) -> Any:
        return msgspec.structs.replace(incoming(**record), key="")

    patch(agents.inbox, "incoming", forgetful)


def homeless() -> None:
    """A worker appends a record where it lies, whichever partition is its home."""

    class Anywhere(int):
        def __ne__(self, other: object) -> bool:
            return False

        __eq__ = int.__eq__
        __hash__ = int.__hash__

    patch(agents.inbox, "home_partition", lambda *_: Anywhere())


def no_beats() -> None:
    """A worker sends no beats."""

    async def beat(self: Any) -> None:
        return

    patch(Publisher, "beat", beat)


WORKERS: Final[tuple[Callable[[], None], ...]] = (
    acked_first,
    marked_first,
    old_epochs_believed,
    rows_without_epoch,
    known_not_written_again,
    committed_ahead,
    holes_believed,
    looked_up_first,
    cursors_acked_first,
    repeats_taken,
    homeless,
    no_beats,
)
