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

from schemas.errors import StoreError
from streams.consumer import Consumer
from streams.turnstile import Turnstile
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)

OUTSIDE: Final = (StoreError, KafkaError, OSError, TimeoutError)  # failures of a server, not of a record or of ours
RETRY_FIRST: Final = 0.1  # s
RETRY_MAX: Final = 2.0  # s
LARGEST_BATCH: Final = 1_000  # records
SMALLEST_BATCH: Final = 32  # records
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

    def learn(self, records: int, elapsed: float) -> None:
        """Adjust the limit after a batch; a batch that was not full says little about a larger one."""
        if elapsed > self.seconds * 1.5:  # by a third, not to what this batch says: one stall of a server is no trend
            self.limit = max(SMALLEST_BATCH, min(self.limit, records) * 2 // 3)
        elif self.limit <= records and elapsed <= self.seconds:
            self.limit = min(LARGEST_BATCH, self.limit * 3 // 2)


class Runner:
    """Runs one agent of a worker.

    `rests` are priorities: while an agent of one of them has had a turn lately, this one pauses after each batch for as
    long as the batch took.
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
    ) -> None:
        self._app = app
        self._turnstile = turnstile
        self._handler = handler
        self._name = name
        self._priority = priority
        self._slice = Slice(seconds)
        self._metrics = metrics
        self._rests = rests
        self._waiting: set[asyncio.Task[None]] = set()

    async def __call__(self, stream: Any) -> None:
        """Consume a Faust stream until it is stopped; this is the body of the Faust agent."""
        queue = stream.channel.queue
        while True:
            try:
                first = await queue.get()
            except StopAsyncIteration:  # how Faust stops a stream
                return
            async with self._turnstile.turn(self._priority):
                messages = self._take(first, queue)
                begun = time.perf_counter()
                if messages:
                    await self._run(messages)
            if self._rests and self._turnstile.busy_lately(self._rests):
                await asyncio.sleep(time.perf_counter() - begun)  # leave the servers and cores to what is urgent

    @property
    def _consumer(self) -> Consumer:
        consumer: Consumer = self._app.consumer
        return consumer

    def _take(self, first: Any, queue: Any) -> list[Any]:
        """Return the records that wait, without those of an assignment that has ended."""
        messages: list[Any] = []
        size, event = 0, first
        generation, flow = self._app.consumer_generation_id, self._app.flow_control
        while True:
            message = event.message
            if flow.is_active() and message.generation_id == generation:
                messages.append(message)
                size += len(message.value or b"")
            if len(messages) >= self._slice.limit or size >= BATCH_BYTES or queue.empty():
                return messages
            event = queue.get_nowait()

    async def _run(self, messages: list[Any]) -> None:
        consumer = self._consumer
        begun = time.perf_counter()
        batch = Batch(messages, consumer.assignment_epoch)
        consumer.track(messages)
        if not await self._done(lambda: self._handler(batch), batch):
            consumer.abandon(messages)
            return
        held = {id(message) for part, _ in batch.held for message in part}
        consumer.ack_all([m for m in messages if id(m) not in held] if held else messages, batch.epoch)
        for part, work in batch.held:
            self._ack_later(part, work, batch)
        elapsed = time.perf_counter() - begun
        self._slice.learn(len(messages), elapsed)
        self._metrics.batch(self._name, len(messages), elapsed)

    async def _done(self, work: Work, batch: Batch) -> bool:
        """Do the work, again and again while a server is away; False: the partitions are being taken away."""
        pause = RETRY_FIRST
        while True:
            try:
                await work()
            except OUTSIDE as exc:
                log.warning("%s: %s: %s; trying again", self._name, type(exc).__name__, exc)
                self._metrics.retries.add(self._name)
                if not self._app.flow_control.is_active() or batch.epoch != self._consumer.assignment_epoch:
                    return False
                await asyncio.sleep(pause)  # back-off: a server is away
                pause = min(RETRY_MAX, pause * 2)
            except Exception as exc:
                log.exception("%s: a batch failed", self._name)
                await self._app.crash(exc)
                raise
            else:
                return True

    def _ack_later(self, messages: list[Any], work: Work, batch: Batch) -> None:
        async def wait() -> None:
            if await self._done(work, batch):
                self._consumer.ack_all(messages, batch.epoch)
            else:
                self._consumer.abandon(messages)

        task = asyncio.create_task(wait())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
