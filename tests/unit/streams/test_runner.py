"""The micro-batch shell: what it takes, when it acks, when it tries again, when it gives up."""

import asyncio
import errno
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from schemas.errors import StoreAway, StoreBarred, StoreBroken, StoreError, StoreRefused
from streams import runner as module
from streams.limits import Limit
from streams.runner import BATCH_BYTES, Batch, Runner
from streams.slices import LARGEST_BATCH, SMALLEST_BATCH, Slice
from streams.stalls import Stalls
from streams.turnstile import Turnstile
from telemetry.watchdog import Watch
from telemetry.worker import WorkerMetrics


class Queue:
    """A stream's queue that ends as Faust ends it."""

    def __init__(self) -> None:
        self._offsets = count()
        self._items: deque[Any] = deque()
        self._changed = asyncio.Event()
        self.ended = False

    def put(self, *values: Any, generation: int = 1) -> list[Any]:
        messages = [
            SimpleNamespace(
                value=value,
                generation_id=generation,
                topic="topic",
                partition=0,
                offset=next(self._offsets),
                tp=TP("topic", 0),
            )
            for value in values
        ]
        self._items.extend(messages)
        self._changed.set()
        return messages

    def end(self) -> None:
        self.ended = True
        self._changed.set()

    def qsize(self) -> int:
        return len(self._items)

    def get_nowait(self) -> Any:
        return self._items.popleft()

    async def get(self) -> Any:
        while not self._items:
            if self.ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()


class App:
    """What of an app the runner sees; it is its own consumer."""

    def __init__(self) -> None:
        self.consumer = self.inlet = self
        self.opened: list[Any] = []
        self.should_stop = False
        self.flows = True
        self.flow_control = SimpleNamespace(is_active=lambda: self.flows)
        self.consumer_generation_id = 1
        self.assignment_epoch = 1
        self.tracked: list[Any] = []
        self.acked: list[Any] = []
        self.abandoned: list[Any] = []
        self.crashes: list[BaseException] = []

    def open(self, topic: str, queue: Any) -> None:
        self.opened.append((topic, queue))

    def track(self, messages: Sequence[Any]) -> None:
        self.tracked += messages

    def ack_all(self, messages: Sequence[Any], epoch: int) -> None:
        assert epoch == 1
        self.acked += messages

    def abandon(self, messages: Sequence[Any]) -> None:
        self.abandoned += messages

    async def crash(self, exc: BaseException) -> None:
        self.crashes.append(exc)


Handler = Callable[[Batch], Awaitable[None]]


class Running:
    """A runner on a queue."""

    def __init__(self, handler: Handler, watch: Watch | None = None) -> None:
        self.app = App()
        self.queue = Queue()
        self.turnstile = Turnstile()
        self.stalls = Stalls()
        self.rejected: list[tuple[Any, str]] = []
        metrics = WorkerMetrics(CollectorRegistry())
        self.runner = Runner(
            self.app, self.turnstile, handler, name="agent", priority=1, seconds=10.0, metrics=metrics,
            watch=watch, reject=self.reject, stalls=self.stalls,
        )  # fmt: skip
        stream = SimpleNamespace(channel=SimpleNamespace(queue=self.queue, get_topic_name=lambda: "topic"))
        self.task: asyncio.Task[None] = asyncio.create_task(self.runner(stream))

    async def reject(self, message: Any, refusal: Exception) -> None:
        assert message not in self.app.acked
        self.rejected.append((message, str(refusal)))

    async def finish(self) -> None:
        """Let it do what waits and end."""
        self.queue.end()
        await asyncio.wait_for(self.task, 5)
        while self.runner._waiting:
            await asyncio.wait_for(asyncio.gather(*self.runner._waiting), 5)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is waited for is the runner's next step, not an event of ours
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST", 0.001)
    monkeypatch.setattr(module, "RETRY_MAX", 0.002)


async def test_an_agent_that_is_begun_again_while_the_worker_stops_ends_at_once() -> None:
    async def handle(_batch: Batch) -> None:
        raise AssertionError("nothing is taken any more")

    running = Running(handle)
    running.app.should_stop = True
    running.queue.put(b"1")
    await asyncio.wait_for(running.task, 5)
    assert not running.app.opened


async def test_what_waits_is_taken_together_and_acked_when_it_is_handled() -> None:
    seen: list[list[Any]] = []

    async def handle(batch: Batch) -> None:
        assert running.app.tracked == batch.messages
        assert not running.app.acked
        seen.append(batch.messages)

    running = Running(handle)
    messages = running.queue.put(b"1", b"2", b"3")
    await running.finish()
    assert seen == [messages]
    assert running.app.acked == messages


async def test_a_stream_that_ends_ends_the_runner() -> None:
    async def handle(_: Batch) -> None:
        raise AssertionError

    await Running(handle).finish()


async def test_a_batch_ends_at_its_limit_of_records_and_of_bytes() -> None:
    sizes: list[int] = []

    async def handle(batch: Batch) -> None:
        sizes.append(len(batch.messages))

    running = Running(handle)
    running.runner._slice.limit = 2
    running.queue.put(b"", b"", b"")
    await until(lambda: len(sizes) == 2)
    running.queue.put(b"x" * BATCH_BYTES, b"")
    await running.finish()
    assert sizes == [2, 1, 1, 1]


async def test_records_of_an_assignment_that_has_ended_are_left_out() -> None:
    seen: list[Any] = []

    async def handle(batch: Batch) -> None:
        seen.extend(batch.messages)

    running = Running(handle)
    running.queue.put(b"old", generation=0)
    new = running.queue.put(b"new", None)
    await until(lambda: seen)
    running.app.flows = False
    running.queue.put(b"while the partitions are taken away")
    await running.finish()
    assert seen == running.app.tracked == running.app.acked == new


@pytest.mark.parametrize(
    "failure",
    [
        StoreAway("away"),
        StoreBarred("not let in"),
        StoreError("who knows"),
        OSError("away"),
        TimeoutError(),
        ConnectionError(),
    ],
)
async def test_while_a_server_is_away_the_same_batch_is_handled_again(failure: Exception) -> None:
    tries: list[Batch] = []

    async def handle(batch: Batch) -> None:
        tries.append(batch)
        if len(tries) < 4:
            raise failure

    running = Running(handle)
    messages = running.queue.put(b"1")
    await running.finish()
    assert len(tries) == 4
    assert all(batch is tries[0] for batch in tries)
    assert running.app.acked == messages
    assert not running.app.crashes


@pytest.mark.parametrize("what", ["flow", "epoch"])
async def test_a_batch_is_given_up_when_its_partitions_are_taken_away(what: str) -> None:
    tries = 0

    async def handle(_: Batch) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            running.app.flows = what != "flow"
            running.app.assignment_epoch += what == "epoch"
        raise StoreError("away")

    running = Running(handle)
    messages = running.queue.put(b"1")
    await running.finish()
    assert tries == 3
    assert running.app.abandoned == messages
    assert not running.app.acked


async def test_any_other_failure_ends_the_worker_and_acks_nothing() -> None:
    async def handle(_: Batch) -> None:
        raise ValueError("ours")

    running = Running(handle)
    running.queue.put(b"1")
    with pytest.raises(ValueError, match="ours"):
        await asyncio.wait_for(running.task, 5)
    assert [str(crash) for crash in running.app.crashes] == ["ours"]
    assert not running.app.acked


@pytest.mark.parametrize(
    ("error", "stuck"),
    [
        pytest.param(StoreError("away"), None, id="a store that is away is waited for"),
        pytest.param(TopicAuthorizationFailedError("t"), None, id="what an operator has to mend is waited for"),
        pytest.param(KafkaTimeoutError("no offsets"), "agent", id="whether Kafka is away others ask"),
    ],
)
async def test_a_worker_whose_kafka_client_is_beyond_help_is_found_out(error: Exception, stuck: str | None) -> None:
    tries = 0

    async def handle(_: Batch) -> None:
        nonlocal tries
        tries += 1
        raise error

    watch = Watch(10.0)
    running = Running(handle, watch)
    running.queue.put(b"1")
    await until(lambda: tries)
    assert watch.look(6.0) is None
    seen = tries
    await until(lambda: tries > seen)
    found = watch.look(6.0)
    seen = tries
    await until(lambda: tries > seen)
    assert (found or watch.look(6.0)) == stuck
    running.task.cancel()


async def test_what_is_held_is_acked_when_its_own_work_is_done() -> None:
    done = asyncio.Event()

    async def work() -> None:
        await done.wait()

    async def handle(batch: Batch) -> None:
        batch.hold(batch.messages[1:2], work)

    running = Running(handle)
    first, held, last = running.queue.put(b"1", b"2", b"3")
    await until(lambda: running.app.acked)
    assert running.app.acked == [first, last]
    running.queue.put(b"the next batch does not wait")
    await until(lambda: len(running.app.acked) == 3)
    done.set()
    await running.finish()
    assert running.app.acked[-1] is held


async def test_held_work_is_tried_again_and_given_up_with_the_partitions() -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            running.app.assignment_epoch += 1
        raise StoreError("away")

    async def handle(batch: Batch) -> None:
        batch.hold(batch.messages, work)

    running = Running(handle)
    messages = running.queue.put(b"1")
    await running.finish()
    assert tries == 3
    assert running.app.abandoned == messages
    assert not running.app.acked


async def test_a_batch_waits_for_the_turnstile_and_takes_what_came_meanwhile() -> None:
    seen: list[int] = []

    async def handle(batch: Batch) -> None:
        seen.append(len(batch.messages))

    running = Running(handle)
    async with running.turnstile.turn(0):
        running.queue.put(b"1")
        for _ in range(5):
            await asyncio.sleep(0)
        running.queue.put(b"2", b"3")
        assert not seen
    await running.finish()
    assert seen == [3]


def test_a_slice_that_takes_too_long_shrinks_by_a_third_however_long_it_took() -> None:
    slice_ = Slice(0.02)
    slice_.learn(120, 0.04)
    assert slice_.limit == 80
    slice_.learn(80, 9.0)
    assert slice_.limit == 53
    for _ in range(9):
        slice_.learn(slice_.limit, 0.001 * slice_.limit)
    assert slice_.limit == SMALLEST_BATCH


def test_a_full_batch_that_was_quick_lets_the_slice_grow() -> None:
    slice_ = Slice(0.02)
    before = slice_.limit
    slice_.learn(before, 0.001)
    assert before < slice_.limit <= 2 * before


def test_a_batch_that_was_not_full_says_nothing() -> None:
    slice_ = Slice(0.02)
    before = slice_.limit
    slice_.learn(before - 1, 0.001)
    assert slice_.limit == before


@given(st.floats(1e-6, 0.01), st.floats(0, 0.01))
def test_a_slice_settles_where_a_batch_takes_about_its_time(each: float, fixed: float) -> None:
    """`each` s a record and `fixed` s a batch: it comes to rest at its time or near one of its bounds."""
    slice_ = Slice(0.02)
    for _ in range(100):
        slice_.learn(slice_.limit, fixed + each * slice_.limit)
        assert SMALLEST_BATCH <= slice_.limit <= LARGEST_BATCH
    took = fixed + each * slice_.limit
    assert slice_.limit == LARGEST_BATCH or slice_.limit <= 1.5 * SMALLEST_BATCH or 0.005 <= took <= 0.045


@given(st.floats(1e-6, 0.01), st.floats(0.05, 10), st.lists(st.floats(0.9, 1.1), min_size=60, max_size=60))
def test_a_server_that_takes_its_time_for_any_batch_is_given_large_ones(
    each: float, fixed: float, noise: list[float]
) -> None:
    """Else a backlog would go at 32 records a batch, which may be less than what comes in."""
    slice_ = Slice(0.02)
    rates = []
    for factor in noise:
        took = (fixed + each * slice_.limit) * factor
        rates.append(slice_.limit / took)
        slice_.learn(slice_.limit, took)
    best = LARGEST_BATCH / (fixed + each * LARGEST_BATCH)
    assert sum(rates[20:]) / 40 > best / 5


async def test_what_waits_beside_the_turnstile_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 2)
    free = asyncio.Event()
    batches = 0

    async def work() -> None:
        await free.wait()

    async def handle(batch: Batch) -> None:
        nonlocal batches
        batches += 1
        batch.hold(batch.messages, work)

    running = Running(handle)
    for number in range(3):
        running.queue.put(b"1")
        await until(lambda number=number: batches == min(number + 1, 2))  # type: ignore[misc]  # a lambda with a default
    assert len(running.runner._waiting) == 2
    free.set()
    await until(lambda: batches == 3)
    await running.finish()
    assert running.runner._held == 0


async def test_a_limit_leaves_records_in_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def handle(_: Batch) -> None:
        pass

    running = Running(handle)
    running.runner._limit = Limit(10, 1_000_000)
    monkeypatch.setattr(asyncio, "sleep", pause)
    running.queue.put(*[b"1"] * 30)
    await running.finish()
    assert 1.9 < sum(pauses) <= 2.0  # 10 at once, 20 more in two seconds


def refusing(*bad: bytes) -> tuple[Handler, list[list[bytes]]]:
    """Return a handler that is refused where one of these values is in the batch, and what it was given."""
    tries: list[list[bytes]] = []

    async def handle(batch: Batch) -> None:
        tries.append([message.value for message in batch.messages])
        if found := {*bad}.intersection(tries[-1]):
            raise StoreRefused(f"too large: {sorted(found)}")

    return handle, tries


async def test_a_refused_batch_is_halved_until_the_one_record_is_found() -> None:
    handle, tries = refusing(b"5")
    running = Running(handle)
    messages = running.queue.put(*[str(n).encode() for n in range(8)])
    await running.finish()
    assert running.rejected == [(messages[5], "too large: [b'5']")]
    assert running.app.acked == messages, "in order, and the dead letter before the ack"
    assert not running.app.abandoned
    assert not running.app.crashes
    assert tries == [
        [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"], [b"0", b"1", b"2", b"3"], [b"4", b"5", b"6", b"7"],
        [b"4", b"5"], [b"4"], [b"5"], [b"5"], [b"6", b"7"],
    ]  # fmt: skip


@given(st.integers(1, 1_000), st.sets(st.integers(0, 999), max_size=5))
def test_to_find_what_is_refused_takes_few_tries_and_no_pause(records: int, bad: set[int]) -> None:
    async def run() -> None:
        found = {n for n in bad if n < records}
        handle, tries = refusing(*[str(n).encode() for n in found])
        running = Running(handle)
        running.runner._slice.limit = records
        messages = running.queue.put(*[str(n).encode() for n in range(records)])
        begun = asyncio.get_running_loop().time()
        await running.finish()
        assert asyncio.get_running_loop().time() - begun < 5
        assert [message for message, _ in running.rejected] == [messages[n] for n in sorted(found)]
        assert running.app.acked == messages
        assert len(tries) <= 1 + len(found) * (2 * (records.bit_length() + 1) + 1)

    asyncio.run(run())


async def test_a_refusal_between_two_outages_is_found_all_the_same() -> None:
    handle, _ = refusing(b"1")
    calls = 0

    async def shaky(batch: Batch) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise StoreAway("away")
        await handle(batch)

    running = Running(shaky)
    messages = running.queue.put(b"0", b"1", b"2")
    await running.finish()
    assert [message for message, _ in running.rejected] == [messages[1]]
    assert running.app.acked == messages


async def test_what_is_refused_once_and_then_taken_is_no_dead_letter() -> None:
    tries = 0

    async def handle(_: Batch) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreRefused("damaged on its way")

    running = Running(handle)
    messages = running.queue.put(b"1")
    await running.finish()
    assert not running.rejected
    assert running.app.acked == messages


async def test_a_dead_letter_that_kafka_does_not_take_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, _ = refusing(b"1")
    running = Running(handle)
    reject, tries = running.reject, 0

    async def later(message: Any, refusal: Exception) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreBarred("no dead letters")
        await reject(message, refusal)

    monkeypatch.setattr(running.runner, "_reject", later)
    messages = running.queue.put(b"1")
    await running.finish()
    assert tries == 3
    assert running.app.acked == messages


async def test_what_is_left_of_a_halved_batch_is_given_up_with_the_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(batch: Batch) -> None:
        if len(batch.messages) > 1:
            raise StoreRefused("one of them")
        if batch.messages[0] is messages[1]:
            running.app.assignment_epoch += 1
            raise StoreAway("away")

    running = Running(handle)
    messages = running.queue.put(b"0", b"1", b"2", b"3")
    monkeypatch.setattr(running.app, "ack_all", lambda some, _: running.app.acked.extend(some))  # of the epoch before
    await running.finish()
    assert running.app.acked == messages[:1]
    assert sorted(m.offset for m in running.app.abandoned) == [1, 2, 3]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), StoreBroken("broken")]
)
async def test_a_failing_disk_ends_the_worker_in_one_line(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def handle(_: Batch) -> None:
        raise failure

    running = Running(handle)
    running.queue.put(b"1")
    with pytest.raises(type(failure)):
        await asyncio.wait_for(running.task, 5)
    assert running.app.crashes == [failure]
    assert not running.app.acked
    (line,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert line.exc_info is None


async def test_work_beside_the_turnstile_that_is_refused_holds_nothing_up() -> None:
    async def work() -> None:
        raise StoreRefused("nobody can read it")

    async def handle(batch: Batch) -> None:
        batch.hold(batch.messages, work)

    running = Running(handle)
    messages = running.queue.put(b"1")
    await running.finish()
    assert running.app.acked == messages
    assert not running.rejected


async def test_a_server_that_is_away_for_hours_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def handle(_: Batch) -> None:
        nonlocal tries
        tries += 1
        if tries < 20:
            raise StoreAway("away" if tries < 10 else "away, and otherwise")

    running = Running(handle)
    running.queue.put(b"1")
    await running.finish()
    assert [r.getMessage().partition(": ")[2] for r in caplog.records if "trying again" in r.message] == [
        "StoreAway: away; trying again", "StoreAway: away, and otherwise; trying again",
    ]  # fmt: skip


async def test_a_record_that_is_tried_for_too_long_is_told_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    there = False

    async def handle(_: Batch) -> None:
        if not there:
            raise StoreAway("away")

    running = Running(handle)
    running.queue.put(b"0", b"1")
    await until(lambda: running.stalls._works)
    await until(lambda: any(w.found for w in running.stalls._works.values()))
    assert running.stalls.look(29.0) == []
    (stall,) = running.stalls.look(1.0)
    assert str(stall) == "topic:0@0 (StoreAway: away)"
    assert running.stalls.look(60.0) == [], "once"
    there = True
    await running.finish()
    assert "topic:0@0 goes on again after 90 s" in caplog.text
    assert running.stalls.standing() == []
