"""The micro-batch shell that every agent runs in: take what waits → handle → ack, one batch at a time in a worker.

An agent gives a handler that performs the effects of a batch and returns when they are durable, in this order: append,
publish, mark. Only then are the records acked. A handler that fails for a reason outside (a server is away) is called
again with the same batch, since all its effects are idempotent; any other failure ends the worker, which starts again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka.errors import KafkaError

from links.misfits import kept
from schemas.errors import StoreError, TocsinError
from streams.consumer import Consumer
from streams.limits import Limit
from streams.turnstile import Turnstile
from telemetry.watchdog import Watch
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)

OUTSIDE: Final = (StoreError, KafkaError, OSError, TimeoutError)  # failures of a server, not of a record or of ours
RETRY_FIRST: Final = 0.1  # s
RETRY_MAX: Final = 0.5  # s; a server that is back is noticed this much later
LARGEST_BATCH: Final = 1_000  # records
SMALLEST_BATCH: Final = 32  # records
MOST_HELD: Final = 5_000  # records whose ack waits for work beside the turnstile; above it no batch is taken
BATCH_BYTES: Final = 4 * 1024 * 1024  # bytes of values after which a batch is full


Work = Callable[[], Awaitable[None]]


class Batch:
    """Records taken together, in the order of each partition; `epoch` counts the worker's assignments."""

    def __init__(self, messages: list[Any], epoch: int) -> None:
        self.messages = messages
        self.epoch = epoch
        self.held: list[tuple[list[Any], Work]] = []

    def hold(self, messages: list[Any], work: Work) -> None:
        """Do `work` beside the turnstile and ack these records when it is done, not with the batch."""
        self.held.append((messages, work))


class Slice:
    """How many records a batch may take so that it holds the turnstile for about `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.limit = 128
        self._before = (0, 0.0)  # records and seconds of the last full batch

    def learn(self, records: int, elapsed: float) -> None:
        """Adjust the limit after a batch; a batch that was not full says little about a larger one.

        A server that takes its time for any batch, however small, is not asked more often than it must be.
        """
        full = self.limit <= records
        late = elapsed > self.seconds * 1.5
        if late and not (full and self._takes_its_time(records, elapsed)):
            # by a third, not to what this batch says: one stall of a server is no trend
            self.limit = max(SMALLEST_BATCH, min(self.limit, records) * 2 // 3)
        elif full and (late or elapsed <= self.seconds):
            self.limit = min(LARGEST_BATCH, self.limit * 3 // 2)
        if full:
            self._before = (records, elapsed)

    def _takes_its_time(self, records: int, elapsed: float) -> bool:
        """Say whether less than half of the time goes with the number of records, by this batch and the last one."""
        before, took = self._before
        if before == records:
            return records <= SMALLEST_BATCH  # it cannot shrink: a larger one will tell
        if not before or not took:
            return False
        return (elapsed / took - 1) / (records / before - 1) < 0.5


class Runner:
    """Runs one agent of a worker.

    `rests` are priorities: while an agent of one of them has had a turn lately, this one pauses after each batch for as
    long as the batch took. `limit` is how many records it takes in a time; the others wait in Kafka.
    `watch` is told what is at work; a retry is a sign of life, since a server that is away is nothing to end for. Not
    so one for Kafka's sake: it may be there and our client dead, so somebody else has to ask whether it is away.
    """

    def __init__(
        self,
        app: Any,
        turnstile: Turnstile,
        handler: Callable[[Batch], Awaitable[None]],
        *,
        name: str,
        priority: int,
        seconds: float,
        metrics: WorkerMetrics,
        rests: tuple[int, ...] = (),
        limit: Limit | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._app = app
        self._turnstile = turnstile
        self._handler = handler
        self._name = name
        self._priority = priority
        self._slice = Slice(seconds)
        self._metrics = metrics
        self._rests = rests
        self._limit = limit
        self._tat = 0  # the clock of the limit, µs of the steady clock
        self._waiting: set[asyncio.Task[None]] = set()
        self._watch = watch or Watch()
        self._at_work = 0
        self._held = 0  # records whose ack waits for work beside the turnstile

    async def __call__(self, stream: Any) -> None:
        """Consume a Faust stream until it is stopped; this is the body of the Faust agent."""
        if self._app.should_stop:  # Faust cancels agents to stop them, begins them again, and then waits for their end
            return
        queue = stream.channel.queue
        self._consumer.inlet.open(stream.channel.get_topic_name(), queue)
        self._metrics.buffered.labels(self._name).set_function(lambda: queue.qsize())  # noqa: PLW0108 - looked up late
        self._metrics.beside.labels(self._name).set_function(lambda: len(self._waiting))
        while True:
            try:
                first = await queue.get()
            except StopAsyncIteration:  # how Faust stops a stream
                return
            while self._held >= MOST_HELD:  # what is not taken waits in Kafka
                await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
            async with self._turnstile.turn(self._priority):
                messages = self._take(first, queue)
                begun = time.perf_counter()
                if messages:
                    await self._run(messages)
                elapsed = time.perf_counter() - begun
            if self._rests and self._turnstile.busy_lately(self._rests):
                await asyncio.sleep(elapsed)  # leave the servers and cores to what is urgent
            await self._hold_back(len(messages))

    async def _hold_back(self, records: int) -> None:
        """Pause until the limit has room again after these records."""
        if self._limit:
            now = time.monotonic_ns() // 1000
            self._tat = max(self._tat, now) + records * (self._limit.window // self._limit.count)
            await asyncio.sleep(max(0, self._tat - now - self._limit.window) / 1e6)

    @property
    def _consumer(self) -> Consumer:
        consumer: Consumer = self._app.consumer
        return consumer

    def _take(self, first: Any, queue: Any) -> list[Any]:
        """Return the records that wait, without those of an assignment that has ended."""
        messages: list[Any] = []
        size, message, waiting = 0, first, queue.qsize()
        active, generation = self._app.flow_control.is_active(), self._app.consumer_generation_id
        limit = self._slice.limit
        while True:
            if active and message.generation_id == generation:
                messages.append(message)
                size += len(message.value or kept(message.value))
            if len(messages) >= limit or size >= BATCH_BYTES or not waiting:
                return messages
            waiting -= 1
            message = queue.get_nowait()

    async def _run(self, messages: list[Any]) -> None:
        consumer = self._consumer
        begun = time.perf_counter()
        batch = Batch(messages, consumer.assignment_epoch)
        consumer.track(messages)
        if not await self._kept(lambda: self._handler(batch), messages, batch):
            return
        held = {id(message) for part, _ in batch.held for message in part}
        consumer.ack_all([m for m in messages if id(m) not in held] if held else messages, batch.epoch)
        for part, work in batch.held:
            self._ack_later(part, work, batch)
        elapsed = time.perf_counter() - begun
        self._slice.learn(len(messages), elapsed)
        self._metrics.batch(self._name, len(messages), elapsed)

    async def _kept(self, work: Work, messages: list[Any], batch: Batch) -> bool:
        """Do the work of messages; those whose work ends in any other way than done are given up, unacked."""
        done = False
        try:
            done = await self._done(work, batch)
        finally:
            if not done:
                self._consumer.abandon(messages)
        return done

    async def _done(self, work: Work, batch: Batch) -> bool:
        """Do the work, again and again while a server is away; False: the partitions are being taken away."""
        self._at_work += 1
        self._watch.alive(self._name)
        try:
            return await self._tried(work, batch)
        finally:
            self._at_work -= 1
            if self._at_work:  # beside the turnstile, where one work waits for another
                self._watch.alive(self._name)
            else:
                self._watch.done(self._name)

    async def _tried(self, work: Work, batch: Batch) -> bool:
        pause = RETRY_FIRST
        while True:
            try:
                await work()
            except OUTSIDE as exc:
                log.warning("%s: %s: %s; trying again", self._name, type(exc).__name__, exc)
                self._metrics.retries.add(self._name)
                if not isinstance(exc, KafkaError):
                    self._watch.alive(self._name)
                if not self._app.flow_control.is_active() or batch.epoch != self._consumer.assignment_epoch:
                    return False
                await asyncio.sleep(pause)  # back-off: a server is away
                pause = min(RETRY_MAX, pause * 2)
            except TocsinError as exc:  # it says what to do
                log.critical("%s", exc)
                await self._app.crash(exc)
                raise
            except Exception as exc:
                log.exception("%s: a batch failed", self._name)
                await self._app.crash(exc)
                raise
            else:
                return True

    def _ack_later(self, messages: list[Any], work: Work, batch: Batch) -> None:
        async def wait() -> None:
            if await self._kept(work, messages, batch):
                self._consumer.ack_all(messages, batch.epoch)

        def done(task: asyncio.Task[None]) -> None:
            self._waiting.discard(task)
            self._hold(-len(messages))

        task = asyncio.create_task(wait())
        self._waiting.add(task)
        self._hold(len(messages))
        task.add_done_callback(done)

    def _hold(self, records: int) -> None:
        self._held += records
        self._metrics.held.set(self._held)
