"""A Kafka consumer for Faust that loses nothing on a rebalance (at least once).

Stock Faust throws fetched records away around a rebalance, takes the hole for a compacted record and commits past it.
This subclasses the aiokafka driver through Faust's own extension points; nothing is patched.

gate     Sources stay paused until recovery has sought and emptied the stream queues for the last time. Faust resumes
         first, and what arrives meanwhile is emptied away.
epoch    Counts assignments; a fetch, delivery, seek or commit begun under an older one has no effect.
tear     Faust keeps topics together only where all members subscribe to all of them. Sources that were assigned
         without their changelogs are not read, and a member that is stopping does not subscribe.
offsets  Contiguity and watermark: see `streams.progress`; how a fetch is delivered: see `streams.delivery`.
zombie   A commit refused at revocation means that the group went on without us: `MembershipLost` ends the worker.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol, cast

from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.exceptions import ImproperlyConfigured
from faust.transport.consumer import ensure_TP, ensure_TPset
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from schemas.errors import TocsinError
from streams.delivery import Delivery
from streams.membership import ConsumerThread
from streams.remade import TopicRemade


class MembershipLost(TocsinError):
    """The group went on without this worker while it was at work; its local tables cannot be trusted."""


class AssignmentWatcher(Protocol):
    """Who wants to know how the assignment changes."""

    def handing_over(self) -> None:
        """Partitions are about to be given up: finish what is in work."""

    def handed_over(self) -> None:
        """Nothing is owned any more."""

    def tore(self, sources: set[TP]) -> None:
        """Note that these sources came without their changelogs and are not read until the next rebalance."""

    def deleted(self, tp: TP, first: int, last: int) -> None:
        """Note that Kafka deleted these offsets of a source before they were processed."""

    async def took_over(self, partitions: set[int]) -> None:
        """Partitions are owned, their tables are recovered, their sources are read from now on."""


class Consumer(Delivery):
    """Delivers every record of an assignment in order and commits only what was delivered and acked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.watcher: AssignmentWatcher | None = None
        self.loose: set[str] = (
            set()
        )  # topics that need neither table nor owner: a worker may have any partition of them
        self.priorities: dict[str, int] = {}  # by topic; what was fetched of the lowest is delivered first
        self._gate_open = self._sought = self._refused = False
        self._held: set[TP] = set()  # to resume when the gate opens
        self._wanted: set[str] = set()  # the topics subscribed to
        super().__init__(*args, **kwargs)
        # Faust's is weak, which doubles the cost of a record here; `Runner` sees to it that none is left behind.
        self._unacked_messages: set[Any] = set()
        if self.in_transaction:
            raise ImproperlyConfigured("this consumer is at_least_once only")

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- assignment ----------------------------------------------------------------------------------------------------

    @property
    def _recovering(self) -> set[TP]:
        """The changelog partitions of the tables that this worker owns."""
        return cast("set[TP]", self.app.tables.recovery.active_tps)

    def _stop_all_flow(self) -> None:
        self.stop_flow()
        self.app.flow_control.suspend()

    def _next_epoch(self) -> None:
        """Close the gate and forget the assignment."""
        self.assignment_epoch += 1
        self._gate_open = self._sought = self._refused = False
        self._held.clear()
        self._progress.clear()
        self._buffered_partitions.clear()
        self.inlet.restart()
        if self.watcher:
            self.watcher.handed_over()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let what is in work finish, commit it while the acks are still known, then hand over."""
        self._stop_all_flow()
        if self.watcher:
            self.watcher.handing_over()
        try:
            if self.app.conf.stream_wait_empty and not self.app.should_stop:
                await self.wait_empty()
                await self.commit()  # the commit inside wait_empty is skipped while another one is under way
                if self._refused:
                    raise MembershipLost  # noqa: TRY301  # caught below: aiokafka would only log it
        except Exception as exc:  # noqa: BLE001  # whatever it is, the worker must not go on
            await self.crash(exc)
        self._next_epoch()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Begin with everything paused, also after an empty assignment."""
        self._stop_all_flow()
        self._next_epoch()
        self._paused_partitions.update(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume what recovery has to read; hold the rest while the gate is closed."""
        now = ensure_TPset(tps)
        if not self._gate_open:
            self._held |= now - self._recovering
            now -= self._held
        super().resume_partitions(now)
        self._active_changed.set()

    def resume_flow(self) -> None:
        """Open the gate if this is the resume after the seek: recovery has just emptied the queues."""
        super().resume_flow()
        if self._sought and self._held:
            self._gate_open = True
            torn = self._torn()
            held, self._held = self._held - torn, set()
            self.resume_partitions(held)
            if self.watcher:
                self.watcher.tore(torn)
            for gone in [t for t in self._wanted if self.topic_partitions(t) == 0]:  # None: it is not known yet
                self.add_future(self._end(TopicRemade.gone(gone)))
            if self.watcher:
                owned = {tp.partition for tp in held if not self._is_changelog_tp(tp) and tp.topic not in self.loose}
                self.add_future(self.watcher.took_over(owned))

    def _torn(self) -> set[TP]:
        """Return the sources that came without their changelogs; they stay paused until the next rebalance."""
        logs = [t.changelog_topic.get_topic_name() for t in self.app.tables.values() if not t.is_global]
        size = self.topic_partitions
        torn = {
            tp
            for tp in self._held
            if not self._is_changelog_tp(tp)
            and tp.topic not in self.loose
            and any(size(log) == size(tp.topic) and TP(log, tp.partition) not in self._recovering for log in logs)
        }
        if torn:
            self.log.error("assigned without their changelogs, not read: %r", sorted(torn))
        return torn

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group, unless the worker is stopping: a member without changelogs tears topics apart."""
        if self.app.should_stop:
            self.log.warning("stopping: not subscribing")
            return
        self._wanted = set(topics)
        await super().subscribe(self._wanted)

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, or to the earliest where nothing is committed."""
        epoch = self.assignment_epoch
        try:
            committed = {ensure_TP(tp): offset for tp, offset in (await self.seek_to_committed()).items()}
            start = {tp: offset for tp, offset in committed.items() if offset is not None}
            first = await self._beginnings([tp for tp in committed if not self._is_changelog_tp(tp)], start)
            start.update((tp, offset) for tp, offset in first.items() if tp not in start)
            await self._check_ends({tp: at for tp, at in start.items() if not self._is_changelog_tp(tp)})
            if start and epoch == self.assignment_epoch:
                await self.seek_wait({tp: max(at, first.get(tp, 0)) for tp, at in start.items()})
        except asyncio.CancelledError:
            if epoch == self.assignment_epoch and not self.app.should_stop:  # recovery would go on unsought
                await self.crash(RuntimeError("seek to the committed offsets timed out"))
            raise
        if epoch == self.assignment_epoch:  # else a newer assignment brings its own seek
            for tp, offset in start.items():
                self._progress[tp].start(offset, committed.get(tp))
                self._skip_deleted(tp, first.get(tp, 0))
            self._sought = True

    def on_deleted(self, tp: TP, first: int, last: int) -> None:
        """Tell the watcher."""
        if self.watcher:
            self.watcher.deleted(tp, first, last)

    async def _beginnings(self, sources: Collection[TP], known: Collection[TP]) -> dict[TP, int]:
        """Return where sources begin; of those whose place is known only if Kafka says it."""
        try:
            found = await self.earliest_offsets(*sources) if sources else {}
        except KafkaError as exc:  # a partition without a leader: what is missing is noticed when its records come
            self.log.warning("where the sources begin is not known: %r", exc)
            new = [tp for tp in sources if tp not in known]
            found = await self.earliest_offsets(*new) if new else {}
        return {ensure_TP(tp): at for tp, at in found.items()}

    # -- acks and commits ----------------------------------------------------------------------------------------------

    def track(self, messages: Iterable[Any]) -> None:
        """Let a revocation wait for these messages until they are acked or abandoned."""
        self._unacked_messages.update(messages)

    def ack_all(self, messages: Collection[Any], epoch: int) -> None:
        """Note that the effects of messages taken under an assignment epoch are durable."""
        self._unacked_messages.difference_update(messages)
        offsets: defaultdict[TP, list[int]] = defaultdict(list)
        for message in messages:
            message.acked = True
            offsets[message.tp].append(message.offset)
        if epoch == self.assignment_epoch:
            for tp, acked in offsets.items():
                self._progress[tp].ack(acked)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)

    def ack_through(self, last: Mapping[TP, Any], epoch: int) -> None:
        """Note that the effects of all up to the last message of each partition are durable; only those are tracked."""
        self._unacked_messages.difference_update(last.values())
        if epoch == self.assignment_epoch:
            for tp, message in last.items():
                self._progress[tp].ack_through(message.offset)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)

    def abandon(self, messages: Iterable[Any]) -> None:
        """Give messages up without an ack: they will be delivered again, here or to another member."""
        self._unacked_messages.difference_update(messages)

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: Faust watches its own stream iterators, which the micro-batch runner does not use."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._progress) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._progress[tp].committable()

    def _should_commit(self, _tp: TP, _offset: int) -> bool:
        return True  # `Progress.committable` has decided

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: ARG002  # Faust's signature
        """Commit unless the assignment has changed; note only what the broker took."""
        epoch = self.assignment_epoch
        assignment = self.assignment()
        mine = {tp: offset for tp, offset in offsets.items() if tp in assignment}
        if not mine:
            return False
        try:
            taken = await self._commit(mine)
        except ConsumerStoppedError:  # the worker crashes: what is not committed comes again
            return False
        if not taken:
            self._refused = epoch == self.assignment_epoch
            return False
        if epoch == self.assignment_epoch:
            for tp, offset in mine.items():
                self._progress[tp].committed = offset
            self.app.tables.on_commit(mine)
            self.app.monitor.on_tp_commit(mine)
        return True


class Transport(driver.Transport):  # type: ignore[misc]  # Faust has no type information here
    """The aiokafka transport with our `Consumer`."""

    Consumer = Consumer
