"""The lower half of the consumer: what is fetched reaches the streams, whole and in order.

A fetch begins under an epoch, which counts assignments; under another one it has no effect. What is wanted next of each
partition is kept (`streams.progress`), so what got lost between Kafka and the streams is read again. A full buffer
pauses its whole topic, so that one lane's backlog cannot block the delivery of another.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, cast

from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.consumer import RecordMap, ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.inlet import Inlet
from streams.progress import Admission, Progress
from streams.remade import TopicRemade

FETCH_WAIT: Final = 1.0  # s; the longest wait of one fetch
FETCH_WAIT_FULL: Final = 0.05  # s; the same while a full buffer keeps a topic out of the fetch
YIELD_EVERY: Final = 100  # records delivered before other tasks get a turn


class Delivery(driver.Consumer):  # type: ignore[misc]  # Faust has no type information here
    """Delivers every record of an assignment once and in order, as far as one assignment goes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.assignment_epoch = 0
        self.exact_ends = True  # False: what Kafka says of ends says nothing about topics that were made again
        self._progress: defaultdict[TP, Progress] = defaultdict(Progress)
        self._active_changed = asyncio.Event()
        super().__init__(*args, **kwargs)
        self.callback = self.inlet = Inlet(self, self.app.flow_control)

    def on_buffer_full(self, tp: TP) -> None:
        """Leave the topic out of the fetches: its partitions share one buffer."""
        siblings = {other for other in self._active_partitions if other.topic == tp.topic}
        if siblings and not self.app.in_recovery:
            self._active_partitions -= siblings
            self._buffered_partitions |= siblings

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch the topic again, except what has been paused since."""
        siblings = {other for other in self._buffered_partitions if other.topic == tp.topic}
        self._buffered_partitions -= siblings
        self._active_partitions |= siblings - self._paused_partitions
        self._active_changed.set()

    async def _drain_messages(self, fetcher: Any) -> None:
        stopped: tuple[type[BaseException], ...] = (*self.consumer_stopped_errors, asyncio.CancelledError)
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._drain_once()
        except stopped:
            if not self.app.should_stop:
                raise

    async def _drain_once(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        epoch = self.assignment_epoch
        self._active_changed.clear()
        active = set(self._active_partitions)  # a copy: aiokafka takes a set that became empty for "all"
        if not active:
            await self.wait(self._active_changed, timeout=FETCH_WAIT)
            return
        records = await self._getmany(active, FETCH_WAIT_FULL if self._buffered_partitions else FETCH_WAIT)
        if epoch != self.assignment_epoch or not self.flow_active:
            return
        if records:
            await self.wait_first(self._deliver(records, epoch), self.suspend_flow)
        else:
            await self.wait_first(self._nothing_came(active, epoch), self.suspend_flow)

    async def _deliver(self, records: RecordMap, epoch: int) -> None:
        """Hand one fetch to the streams. If it is cut short, contiguity notices what was left out."""
        sources = await self._without_changelogs(records)
        if epoch != self.assignment_epoch or not self.flow_active:
            return
        left = {raw: items for raw, items in sources.items() if items and not self._deliver_all(ensure_TP(raw), items)}
        if left:
            await self._deliver_each(left, epoch)

    def _deliver_all(self, tp: TP, records: list[Any]) -> bool:
        """Deliver what was fetched of a partition, if it is just what is wanted and there is room for all of it."""
        if tp in self._paused_partitions or not self.inlet.has_room(tp, len(records)):
            return False
        if not self._progress[tp].admit_all(records[0].offset, records[-1].offset, len(records)):
            return False
        self.inlet.put_all(tp, [self._to_message(tp, record) for record in records])
        return True

    async def _deliver_each(self, sources: RecordMap, epoch: int) -> None:
        """Deliver record by record, and wait where there is no room."""
        skipped: set[TP] = set()
        for count, (raw, record) in enumerate(self.scheduler.iterate(sources), 1):
            if count % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            if epoch != self.assignment_epoch or not self.flow_active:
                return
            tp = ensure_TP(raw)
            if tp in skipped or tp in self._paused_partitions:
                skipped.add(tp)
            elif (admission := self._progress[tp].admit(record.offset)) is Admission.DELIVER:
                await self._deliver_one(tp, record, epoch)
            elif admission is Admission.HOLE:
                skipped.add(tp)
                await self._read_again(tp, record.offset, epoch)

    async def _without_changelogs(self, records: RecordMap) -> RecordMap:
        """Give the tables what is theirs of a fetch, and begin the fetch of the rest; none if just revoked."""
        sources: RecordMap = {}
        for raw, items in records.items():
            tp = ensure_TP(raw)
            if self._is_changelog_tp(tp):
                await self._recover(tp, items)
                continue
            sources[raw] = items
            progress = self._progress[tp]
            progress.begin_fetch()
            try:
                end = self.highwater(raw)
                self.app.monitor.track_tp_end_offset(tp, end)
            except IllegalStateError:  # just revoked
                return {}
            if progress.wanted is not None and end is not None and end < progress.wanted:
                await self._check_ends({tp: progress.wanted})
        return sources

    async def _nothing_came(self, active: set[TP], epoch: int) -> None:
        """Read a partition again that has more than was delivered: what was fetched last may have got lost."""
        await self.app.tables.recovery.nothing_came()
        if self._buffered_partitions:  # the wait was too short to say anything
            return
        for tp in active & self._progress.keys():
            if epoch != self.assignment_epoch:
                return
            end = self.highwater(tp)
            if end is not None and self._progress[tp].missing(end):
                await self._read_again(tp, end, epoch)

    async def _recover(self, tp: TP, records: list[Any]) -> None:
        """Give one fetch of a changelog to the table; one that was paused meanwhile is read again when it is wanted."""
        if tp in self._paused_partitions:
            return
        try:
            self.app.tables.recovery.apply(tp, records)
        except Exception as exc:  # the table said what is wrong; Faust would go on without what was not applied
            await self.crash(exc)
            raise

    async def _deliver_one(self, tp: TP, record: Any, epoch: int) -> None:
        try:
            await self.callback(self._to_message(tp, record))
        except BaseException:  # cut short (CancelledError): it was not delivered
            if epoch == self.assignment_epoch:
                self._progress[tp].undo(record.offset)
            raise

    async def _read_again(self, tp: TP, got: int, epoch: int) -> None:
        await self._look_for_deleted(tp, epoch)
        wanted = cast("int", self._progress[tp].wanted)
        self.log.warning("%s: wanted offset %s, got %s: reading again", tp, wanted, got)
        try:
            await self.seek_wait({tp: wanted})
        except IllegalStateError:  # not assigned any more
            if epoch == self.assignment_epoch:
                raise

    async def _look_for_deleted(self, tp: TP, epoch: int) -> None:
        """Pass over what Kafka deleted while it was waited for."""
        try:
            first = (await self.earliest_offsets(tp)).get(tp)
        except (KafkaError, IllegalStateError) as exc:  # it is looked at again with the next hole
            self.log.warning("where %s begins is not known: %r", tp, exc)
            return
        if first is not None and epoch == self.assignment_epoch:
            self._skip_deleted(tp, first)

    def _skip_deleted(self, tp: TP, first: int) -> None:
        """Go on where a partition begins, and say what was deleted before it was processed."""
        if passed := self._progress[tp].skip_to(first):
            begin, end = passed
            self.log.error(
                "%s:%d: Kafka deleted the records %d to %d (%d) before they were processed; it goes on at %d",
                tp.topic, tp.partition, begin, end, end - begin + 1, first,
            )  # fmt: skip
            self.on_deleted(tp, begin, end)

    def on_deleted(self, tp: TP, first: int, last: int) -> None:
        """Hear that Kafka deleted these offsets of a source before they were processed."""

    async def _check_ends(self, places: Mapping[TP, int]) -> None:
        """End the worker if a place lies beyond the end of its partition: the records before it would be dropped."""
        try:
            ends = await self.highwaters(*places) if places and self.exact_ends else {}
        except KafkaError as exc:  # a partition without a leader: it is looked at again when its records come
            self.log.warning("the ends of the sources are not known: %r", exc)
            return
        for tp, end in ends.items():
            if places[ensure_TP(tp)] > end:
                await self._end(TopicRemade.beyond(ensure_TP(tp), end, places[ensure_TP(tp)] - 1))
                return

    async def _end(self, error: TopicRemade) -> None:
        self.log.critical("%s", error)
        await self.crash(error)
