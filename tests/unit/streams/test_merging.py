"""The shell of what is merged: acked by the flush that follows, bounded by watermarks, given up with its partitions."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from schemas.errors import StoreError
from streams import merging as module
from streams import runner as runner_module
from streams.merging import MergingRunner
from streams.runner import Work
from streams.turnstile import Turnstile
from telemetry.worker import WorkerMetrics
from tests.unit.streams.test_runner import App, Queue, until

TP = "tp0"


class Merged(App):
    """An app whose consumer is told up to where all is durable."""

    def __init__(self) -> None:
        super().__init__()
        self.through: list[int] = []

    def track(self, messages: Iterable[Any]) -> None:
        self.tracked += messages

    def abandon(self, messages: Iterable[Any]) -> None:
        self.abandoned += messages

    def ack_through(self, last: dict[Any, Any], epoch: int) -> None:
        assert epoch == self.assignment_epoch
        self.through += [message.offset for message in last.values()]
        self.abandoned += last.values()

    def waited_for(self) -> int:
        """How many messages a revocation waits for."""
        left = Counter(map(id, self.tracked))
        left.subtract(map(id, self.abandoned))
        return sum(count for count in left.values() if count > 0)


class World:
    def __init__(self) -> None:
        self.app, self.queue = Merged(), Queue()
        self.merged: list[int] = []
        self.unflushed = 0
        self.flushes = 0
        self.failures = 0
        self.open = asyncio.Event()
        self.open.set()
        self.letters: list[int] = []
        self.runner = MergingRunner(
            self.app,
            Turnstile(),
            self.merge,
            flush=self.flush,
            waiting=lambda: self.unflushed,
            name="acks",
            priority=4,
            seconds=10.0,
            metrics=WorkerMetrics(CollectorRegistry()),
        )
        stream = SimpleNamespace(channel=SimpleNamespace(queue=self.queue, get_topic_name=lambda: "acks"))
        self.task = asyncio.create_task(self.runner(stream))

    def put(self, *offsets: int, generation: int = 1) -> None:
        for offset in offsets:
            (message,) = self.queue.put(b"", generation=generation)
            message.tp, message.offset = TP, offset

    def merge(self, messages: Iterable[Any]) -> Work | None:
        offsets = [message.offset for message in messages]
        self.merged += offsets
        self.unflushed += len(offsets)
        bad = [offset for offset in offsets if offset < 0]

        async def write() -> None:
            self.letters += bad

        return write if bad else None

    async def flush(self) -> None:
        self.flushes += 1
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise StoreError("away")
        self.unflushed = 0

    async def end(self) -> None:
        self.queue.end()
        await asyncio.wait_for(self.task, 5)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "RETRY_FIRST", 0.001)
    monkeypatch.setattr(runner_module, "RETRY_MAX", 0.002)


@pytest.fixture
async def world() -> World:
    return World()


async def test_what_was_merged_is_acked_when_it_is_durable_and_one_message_is_waited_for(world: World) -> None:
    world.open.clear()
    world.put(*range(500))
    await until(lambda: len(world.merged) == 500)
    assert world.app.through == []
    assert world.app.waited_for() <= 2, "records are not held one by one"
    world.open.set()
    await until(lambda: world.app.through and world.app.through[-1] == 499)
    assert world.app.waited_for() == 0
    await world.end()


async def test_what_is_merged_while_a_flush_is_under_way_is_for_the_next_one(world: World) -> None:
    world.open.clear()
    world.put(0, 1)
    await until(lambda: world.flushes == 1)
    world.put(2)
    await until(lambda: len(world.merged) == 3)
    world.open.set()
    await until(lambda: len(world.app.through) == 2)
    assert (world.app.through, world.flushes) == ([1, 2], 2)
    await world.end()


async def test_a_flush_that_failed_is_done_again_before_anything_is_acked(world: World) -> None:
    world.failures = 3
    world.put(0)
    await until(lambda: world.app.through)
    assert (world.app.through, world.flushes) == ([0], 4)
    await world.end()


async def test_nothing_is_taken_while_too_much_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    world.open.clear()
    world.put(0, 1, 2)
    await until(lambda: len(world.merged) == 3)
    world.put(3, 4)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(world.merged) == 3
    world.open.set()
    await until(lambda: world.app.through and world.app.through[-1] == 4)
    await world.end()


async def test_what_cannot_be_merged_has_its_letter_before_it_is_acked(world: World) -> None:
    world.put(-5)
    await until(lambda: world.app.through)
    assert world.letters == [-5]
    await world.end()


async def test_partitions_that_are_taken_away_take_their_messages_with_them(world: World) -> None:
    world.open.clear()
    world.failures = 10**9
    world.put(0, 1)
    await until(lambda: world.flushes == 1)
    world.app.assignment_epoch = 2
    world.open.set()
    await until(lambda: world.app.waited_for() == 0)
    assert world.app.through == []
    world.failures = 0
    world.put(9, generation=1)
    await until(lambda: world.app.through == [9])
    await world.end()
