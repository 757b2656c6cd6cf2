"""The consumer that loses nothing on a rebalance: the gate, the epochs, the delivery of fetches, the commits.

The consumer is the real one, of a real app that is never connected; what Kafka would do, the tests do.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import ConsumerStoppedError
from faust.types import TP

from streams.app import make_app
from streams.consumer import Consumer, MembershipLost
from streams.remade import TopicRemade
from streams.settings import Settings

SOURCE, OTHER = TP("notes", 0), TP("notes", 1)
URGENT = TP("urgent", 0)


class Watcher:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def handing_over(self) -> None:
        self.told.append("handing over")

    def handed_over(self) -> None:
        self.told.append("handed over")

    def tore(self, sources: set[TP]) -> None:
        """Do nothing: the consumer logs it."""

    def deleted(self, tp: TP, first: int, last: int) -> None:
        self.told.append((tp, first, last))

    async def took_over(self, partitions: set[int]) -> None:
        self.told.append(partitions)


class Message:
    def __init__(self, tp: TP, offset: int) -> None:
        self.tp, self.offset, self.acked = tp, offset, False


class Kafka:
    """Takes the place of what the consumer asks the broker and of what it hands records to."""

    def __init__(self, consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.consumer = consumer
        self.delivered: list[tuple[TP, int]] = []
        self.seeks: list[dict[TP, int]] = []
        self.commits: list[dict[TP, int]] = []
        self.committed: dict[TP, int | None] = {SOURCE: 0}
        self.takes_commits = True
        self.first, self.end = 0, 100
        consumer.watcher = Watcher()
        consumer.callback = self.callback
        self.room = False
        consumer.inlet = SimpleNamespace(has_room=self.has_room, put_all=self.put_all, restart=lambda: None)
        consumer._to_message = lambda tp, record: Message(tp, record.offset)
        consumer._is_changelog_tp = lambda tp: tp.topic.endswith("-changelog")
        for name in (
            "seek_wait",
            "seek_to_committed",
            "earliest_offsets",
            "assignment",
            "highwater",
            "highwaters",
            "_commit",
        ):
            monkeypatch.setattr(consumer, name, getattr(self, name))
        monkeypatch.setattr(type(consumer), "scheduler", SimpleNamespace(iterate=self.iterate), raising=False)
        app = consumer.app
        monkeypatch.setattr(app.topics, "acks_enabled_for", lambda _topic: True)
        app.flow_control.resume()

    @staticmethod
    def iterate(records: Mapping[TP, list[Any]]) -> Iterable[tuple[TP, Any]]:
        return ((tp, record) for tp, items in records.items() for record in items)

    def has_room(self, _tp: TP, _count: int) -> bool:
        return self.room

    def put_all(self, tp: TP, messages: list[Message]) -> None:
        assert all(message.tp == tp for message in messages)
        self.delivered += [(message.tp, message.offset) for message in messages]

    async def callback(self, message: Message) -> None:
        self.delivered.append((message.tp, message.offset))

    async def seek_wait(self, offsets: Mapping[TP, int]) -> None:
        self.seeks.append(dict(offsets))

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        return self.committed

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        return dict.fromkeys(tps, self.first)

    def assignment(self) -> set[TP]:
        return set(self.committed)

    def highwater(self, _tp: TP) -> int:
        return self.end

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        return dict.fromkeys(tps, self.end)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        self.commits.append(dict(offsets))
        return self.takes_commits

    async def fetch(self, tp: TP, *offsets: int, epoch: int | None = None) -> None:
        """Hand one fetch to the consumer."""
        records = {tp: [SimpleNamespace(offset=offset) for offset in offsets]}
        at = self.consumer.assignment_epoch if epoch is None else epoch
        await self.consumer._deliver(records, at)

    async def assign(self) -> None:
        """An assignment as far as the seek."""
        self.consumer._next_epoch()
        self.consumer._set_active_tps(set())
        self.consumer._paused_partitions.update(self.committed)
        await self.consumer.perform_seek()
        self.consumer.resume_partitions(set(self.committed))
        self.consumer.resume_flow()


@pytest.fixture
async def consumer(tmp_path: Path) -> AsyncIterator[Consumer]:
    app = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2)
    consumer: Consumer = app.consumer
    yield consumer
    consumer._thread.thread_loop.close()  # the loop of a thread that was never started


@pytest.fixture(params=[False, True], ids=["record by record", "whole fetches"])
async def kafka(consumer: Consumer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Kafka:
    kafka = Kafka(consumer, monkeypatch)
    kafka.room = request.param
    return kafka


async def test_records_are_delivered_in_order_from_the_committed_offset(consumer: Consumer, kafka: Kafka) -> None:
    kafka.committed = {SOURCE: 3}
    await kafka.assign()
    assert kafka.seeks == [{SOURCE: 3}]
    await kafka.fetch(SOURCE, 3, 4, 5)
    assert kafka.delivered == [(SOURCE, 3), (SOURCE, 4), (SOURCE, 5)]


async def test_a_partition_without_a_commit_is_read_from_its_beginning(kafka: Kafka) -> None:
    kafka.committed, kafka.first = {SOURCE: None}, 7
    await kafka.assign()
    assert kafka.seeks == [{SOURCE: 7}]


async def test_sources_stay_paused_until_the_seek_is_done(consumer: Consumer, kafka: Kafka) -> None:
    consumer._next_epoch()
    consumer._set_active_tps(set())
    consumer._paused_partitions.update({SOURCE})
    consumer.resume_partitions({SOURCE})
    consumer.resume_flow()
    assert SOURCE not in consumer._active_partitions, "recovery has not sought yet"
    await consumer.perform_seek()
    consumer.resume_partitions({SOURCE})
    assert SOURCE not in consumer._active_partitions
    consumer.resume_flow()
    assert SOURCE in consumer._active_partitions


async def test_a_hole_is_read_again_before_it_is_believed(kafka: Kafka) -> None:
    await kafka.assign()
    kafka.seeks.clear()
    await kafka.fetch(SOURCE, 4, 5)
    assert kafka.delivered == []
    assert kafka.seeks == [{SOURCE: 0}]
    await kafka.fetch(SOURCE, 4, 5)
    assert kafka.delivered == [(SOURCE, 4), (SOURCE, 5)]


async def test_what_was_deleted_while_no_worker_ran_is_passed_over_said_and_committed(
    consumer: Consumer, kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.committed, kafka.first = {SOURCE: 3}, 7
    await kafka.assign()
    assert kafka.seeks == [{SOURCE: 7}]
    assert (SOURCE, 3, 6) in consumer.watcher.told  # type: ignore[union-attr]  # the one of these tests
    assert "notes:0: Kafka deleted the records 3 to 6 (4) before they were processed" in caplog.text
    await consumer.commit()
    assert kafka.commits == [{SOURCE: 7}], "else it would be counted again by the next owner"


async def test_what_is_deleted_while_it_is_waited_for_is_passed_over_and_said(consumer: Consumer, kafka: Kafka) -> None:
    await kafka.assign()
    await kafka.fetch(SOURCE, 0, 1)
    kafka.first = 9
    await kafka.fetch(SOURCE, 9, 10)
    assert (SOURCE, 2, 8) in consumer.watcher.told  # type: ignore[union-attr]  # the one of these tests
    assert kafka.seeks[-1] == {SOURCE: 9}
    await kafka.fetch(SOURCE, 9, 10)
    assert [offset for _, offset in kafka.delivered] == [0, 1, 9, 10]


async def test_what_is_deleted_to_the_end_is_passed_over_although_nothing_comes(
    consumer: Consumer, kafka: Kafka
) -> None:
    await kafka.assign()
    await kafka.fetch(SOURCE, 0, 1)
    kafka.first = kafka.end = 9
    await consumer._nothing_came({SOURCE}, consumer.assignment_epoch)
    assert (SOURCE, 2, 8) in consumer.watcher.told  # type: ignore[union-attr]  # the one of these tests


async def test_the_last_fetch_is_read_again_if_it_got_lost(consumer: Consumer, kafka: Kafka) -> None:
    await kafka.assign()
    await kafka.fetch(SOURCE, *range(97))
    kafka.seeks.clear()
    await consumer._nothing_came({SOURCE}, consumer.assignment_epoch)
    assert kafka.seeks == [{SOURCE: 97}], "the partition ends at 100"
    await consumer._nothing_came({SOURCE}, consumer.assignment_epoch)
    assert len(kafka.seeks) == 1, "what does not come the second time is no record"
    await kafka.fetch(SOURCE, *range(97, 100))
    await consumer._nothing_came({SOURCE}, consumer.assignment_epoch)
    assert len(kafka.seeks) == 1


async def test_a_fetch_may_be_empty(kafka: Kafka) -> None:
    await kafka.assign()
    await kafka.fetch(SOURCE)
    await kafka.fetch(SOURCE, 0)
    assert kafka.delivered == [(SOURCE, 0)]


async def test_what_was_delivered_is_not_delivered_again(kafka: Kafka) -> None:
    await kafka.assign()
    await kafka.fetch(SOURCE, 0, 1)
    await kafka.fetch(SOURCE, 0, 1, 2)
    assert kafka.delivered == [(SOURCE, 0), (SOURCE, 1), (SOURCE, 2)]


async def test_a_fetch_of_an_earlier_assignment_is_not_delivered(consumer: Consumer, kafka: Kafka) -> None:
    await kafka.assign()
    before = consumer.assignment_epoch
    await kafka.assign()
    await kafka.fetch(SOURCE, 0, epoch=before)
    assert kafka.delivered == []


async def test_a_paused_partition_is_skipped_and_read_later(consumer: Consumer, kafka: Kafka) -> None:
    await kafka.assign()
    consumer._paused_partitions.add(SOURCE)
    await kafka.fetch(SOURCE, 0, 1)
    consumer._paused_partitions.discard(SOURCE)
    await kafka.fetch(SOURCE, 0, 1)
    assert kafka.delivered == [(SOURCE, 0), (SOURCE, 1)]


async def test_a_delivery_that_was_cut_short_is_made_again(
    consumer: Consumer, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_short(_message: Message) -> None:
        raise RuntimeError("cut short")

    await kafka.assign()
    kafka.room = False
    monkeypatch.setattr(consumer, "callback", cut_short)
    with pytest.raises(RuntimeError):
        await kafka.fetch(SOURCE, 0)
    monkeypatch.setattr(consumer, "callback", kafka.callback)
    await kafka.fetch(SOURCE, 0)
    assert kafka.delivered == [(SOURCE, 0)]


async def commit(consumer: Consumer, *tps: TP) -> bool:
    offsets = {tp: offset for tp in tps if (offset := consumer._new_offset(tp)) is not None}
    return await consumer._commit_offsets(offsets)


async def test_what_is_committed_ends_before_the_first_record_that_was_not_acked(
    consumer: Consumer, kafka: Kafka
) -> None:
    await kafka.assign()
    await kafka.fetch(SOURCE, 0, 1, 2, 3)
    consumer.ack_all([Message(SOURCE, offset) for offset in (0, 1, 3)], consumer.assignment_epoch)
    assert await commit(consumer, SOURCE)
    assert not await commit(consumer, SOURCE), "the broker has it"
    consumer.ack_all([Message(SOURCE, 2)], consumer.assignment_epoch)
    assert await commit(consumer, SOURCE)
    assert kafka.commits == [{SOURCE: 2}, {SOURCE: 4}]


async def test_acks_of_an_earlier_assignment_commit_nothing(consumer: Consumer, kafka: Kafka) -> None:
    await kafka.assign()
    await kafka.fetch(SOURCE, 0)
    before = consumer.assignment_epoch
    await kafka.assign()
    await kafka.fetch(SOURCE, 0)
    consumer.ack_all([Message(SOURCE, 0)], before)
    assert not await commit(consumer, SOURCE)


async def test_partitions_that_are_not_assigned_any_more_are_not_committed(consumer: Consumer, kafka: Kafka) -> None:
    await kafka.assign()
    assert not await consumer._commit_offsets({OTHER: 5})
    assert kafka.commits == []


async def test_a_commit_that_nobody_answers_any_more_is_none(
    consumer: Consumer, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended(_offsets: Mapping[TP, int]) -> bool:
        raise ConsumerStoppedError

    await kafka.assign()
    await kafka.fetch(SOURCE, 0)
    consumer.ack_all([Message(SOURCE, 0)], consumer.assignment_epoch)
    monkeypatch.setattr(consumer, "_commit", ended)
    assert not await commit(consumer, SOURCE)


async def test_a_commit_that_was_refused_is_tried_again(consumer: Consumer, kafka: Kafka) -> None:
    await kafka.assign()
    await kafka.fetch(SOURCE, 0)
    consumer.ack_all([Message(SOURCE, 0)], consumer.assignment_epoch)
    kafka.takes_commits = False
    assert not await commit(consumer, SOURCE)
    kafka.takes_commits = True
    assert await commit(consumer, SOURCE)
    assert kafka.commits == [{SOURCE: 1}, {SOURCE: 1}]


async def test_a_commit_refused_at_the_revocation_ends_the_worker(
    consumer: Consumer, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes: list[BaseException] = []

    async def crash(exc: BaseException) -> None:
        crashes.append(exc)

    async def refused(**_: Any) -> bool:
        return await commit(consumer, SOURCE)

    monkeypatch.setattr(consumer, "crash", crash)
    monkeypatch.setattr(consumer, "commit", refused)
    await kafka.assign()
    await kafka.fetch(SOURCE, 0)
    consumer.ack_all([Message(SOURCE, 0)], consumer.assignment_epoch)
    kafka.takes_commits = False
    await consumer.on_partitions_revoked({SOURCE})
    assert [type(crash) for crash in crashes] == [MembershipLost]


async def test_the_watcher_hears_of_every_change(consumer: Consumer, kafka: Kafka) -> None:
    watcher = Watcher()
    consumer.watcher = watcher
    await kafka.assign()
    for future in list(consumer._futures):
        await future
    await consumer.on_partitions_revoked({SOURCE})
    assert watcher.told == ["handed over", {0}, "handing over", "handed over"]


async def test_a_full_buffer_keeps_its_whole_topic_out_of_the_fetches_and_no_other(
    consumer: Consumer, kafka: Kafka
) -> None:
    kafka.committed = {SOURCE: 0, OTHER: 0, URGENT: 0}
    await kafka.assign()
    consumer.app.in_recovery = False
    consumer.on_buffer_full(SOURCE)
    assert consumer._active_partitions == {URGENT}
    consumer._paused_partitions.add(OTHER)
    consumer.on_buffer_drop(SOURCE)
    assert consumer._active_partitions == {URGENT, SOURCE}, "what was paused since stays out"


async def test_messages_in_work_are_waited_for_until_they_are_acked_or_given_up(
    consumer: Consumer, kafka: Kafka
) -> None:
    await kafka.assign()
    first, second = Message(SOURCE, 0), Message(SOURCE, 1)
    consumer.track([first, second])
    assert set(consumer.unacked) == {first, second}
    consumer.ack_all([first], consumer.assignment_epoch)
    consumer.abandon([second])
    assert not consumer.unacked
    assert first.acked
    assert not second.acked


@pytest.fixture
def crashes(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    found: list[BaseException] = []

    async def crash(exc: BaseException) -> None:
        found.append(exc)

    monkeypatch.setattr(consumer, "crash", crash)
    return found


async def test_a_commit_beyond_the_end_ends_the_worker(kafka: Kafka, crashes: list[BaseException]) -> None:
    kafka.committed, kafka.end = {SOURCE: 101}, 100
    await kafka.assign()
    assert [type(exc) for exc in crashes] == [TopicRemade]
    assert "ends at 100, and offset 100 was processed" in str(crashes[0])


async def test_a_commit_at_the_end_is_fine(kafka: Kafka, crashes: list[BaseException]) -> None:
    kafka.committed, kafka.end = {SOURCE: 100}, 100
    await kafka.assign()
    assert crashes == []


async def test_a_topic_that_is_made_again_while_it_is_read_ends_the_worker(
    kafka: Kafka, crashes: list[BaseException]
) -> None:
    kafka.committed = {SOURCE: 50}
    await kafka.assign()
    kafka.end = 2
    await kafka.fetch(SOURCE, 0, 1)
    assert [type(exc) for exc in crashes] == [TopicRemade]
