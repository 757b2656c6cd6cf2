"""The micro-batch shell that every agent runs in: take what waits → handle → ack, one batch at a time in a worker.

An agent gives a handler that performs the effects of a batch and returns when they are durable, in this order: append,
publish, mark. Only then are the records acked. A handler that fails because a server is away is called again with the
same batch, since all its effects are idempotent. Where a server refuses what it is given, the batch is halved until the
one record is found; that one is rejected (it becomes a dead letter), and the others are handled. Any other failure ends
the worker, which starts again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, Final

from aiokafka.errors import KafkaError

from links.misfits import kept
from schemas.errors import Kind, TocsinError
from streams.consumer import Consumer
from streams.failures import PASSING, kind
from streams.halving import halves
from streams.limits import Limit
from streams.slices import Slice
from streams.stalls import Stall, Stalls
from streams.turnstile import Turnstile
from telemetry.watchdog import Watch
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)

RETRY_FIRST: Final = 0.1  # s
RETRY_MAX: Final = 0.5  # s; a server that is back is noticed this much later
MOST_HELD: Final = 5_000  # records whose ack waits for work beside the turnstile; above it no batch is taken
BATCH_BYTES: Final = 4 * 1024 * 1024  # bytes of values after which a batch is full


Work = Callable[[], Awaitable[None]]
Reject = Callable[[Any, Exception], Awaitable[None]]


class Batch:
    """Records taken together, in the order of each partition; `epoch` counts the worker's assignments."""

    def __init__(self, messages: Sequence[Any], epoch: int) -> None:
        self.messages = messages
        self.epoch = epoch
        self.held: list[tuple[Sequence[Any], Work]] = []

    def hold(self, messages: Sequence[Any], work: Work) -> None:
        """Do `work` beside the turnstile and ack these records when it is done, not with the batch.

        Work for many finds by itself which of it is refused (`streams.halving.spared`): what is refused of it is no
        loss of a record. If it is refused as a whole all the same, that is logged and counted, and its records are
        acked.
        """
        self.held.append((messages, work))


class _Stopped(Exception):
    """The partitions are being taken away: what is not done comes again, here or elsewhere."""


class Runner:
    """Runs one agent of a worker.

    `rests` are priorities: while an agent of one of them has had a turn lately, this one pauses after each batch for as
    long as the batch took. `limit` is how many records it takes in a time; the others wait in Kafka.
    `reject` makes a refused record's dead letter and returns when that is durable. `stalls` is told what is tried.
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
        reject: Reject,
        stalls: Stalls | None = None,
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
        self._reject = reject
        self._stalls = stalls or Stalls()
        self._works = count()
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
        """Handle records and ack them; where some are refused, part by part."""
        epoch = self._consumer.assignment_epoch
        begun = time.perf_counter()
        self._consumer.track(messages)
        number = next(self._works)
        left: list[Sequence[Any]] = [messages]  # the last is next
        try:
            await self._handle_all(number, left, epoch)
        except _Stopped:
            return
        finally:
            for part in left:
                self._consumer.abandon(part)
            self._gone_on(self._stalls.end(number), done=not left)
        elapsed = time.perf_counter() - begun
        self._slice.learn(len(messages), elapsed)
        self._metrics.batch(self._name, len(messages), elapsed)

    async def _handle_all(self, number: int, left: list[Sequence[Any]], epoch: int) -> None:
        """Take the parts of `left` away as they are done, in order."""
        twice: Any = None
        while left:
            batch = Batch(left[-1], epoch)
            refusal = await self._done(number, batch.messages, epoch, lambda batch=batch: self._handler(batch))  # type: ignore[misc]  # the loop's own batch
            if refusal is None:
                self._ack(batch)
                left.pop()
            elif len(batch.messages) > 1:
                left[-1:] = reversed(halves(batch.messages))
            elif twice is not batch.messages[0]:  # what was damaged on its way passes the second time
                twice = batch.messages[0]
            else:
                await self._turn_away(number, batch, refusal)
                left.pop()

    def _ack(self, batch: Batch) -> None:
        held = {id(message) for part, _ in batch.held for message in part}
        done = [m for m in batch.messages if id(m) not in held] if held else batch.messages
        self._consumer.ack_all(done, batch.epoch)
        for part, work in batch.held:
            self._ack_later(part, work, batch.epoch)

    async def _turn_away(self, number: int, batch: Batch, refusal: Exception) -> None:
        """Write the dead letter of the one record of a batch, and ack it."""
        (message,) = batch.messages
        log.error("%s:%d@%d is refused: %s", message.topic, message.partition, message.offset, refusal)
        self._metrics.refused.add(self._name)
        await self._done(number, batch.messages, batch.epoch, lambda: self._reject(message, refusal))
        self._consumer.ack_all(batch.messages, batch.epoch)

    async def _done(self, number: int, messages: Sequence[Any], epoch: int, work: Work) -> Exception | None:
        """Do the work, again and again while a server is away; return why it is refused, if it is.

        Raises `_Stopped` when the partitions are being taken away.
        """
        self._gone_on(self._stalls.begin(number, messages), done=True)
        self._at_work += 1
        self._watch.alive(self._name)
        try:
            return await self._tried(number, epoch, work)
        finally:
            self._at_work -= 1
            if self._at_work:  # beside the turnstile, where one work waits for another
                self._watch.alive(self._name)
            else:
                self._watch.done(self._name)

    async def _tried(self, number: int, epoch: int, work: Work) -> Exception | None:
        pause, said = RETRY_FIRST, ""
        while True:
            try:
                await work()
            except Exception as exc:
                if kind(exc) is Kind.REFUSED:
                    return exc
                if kind(exc) not in PASSING:
                    await self._end(exc)
                    raise
                if (text := f"{type(exc).__name__}: {exc}") != said:  # once, and not twice a second for hours
                    log.warning("%s: %s; trying again", self._name, text)
                    said = text
                self._failed(number, exc, text)
            else:
                return None
            if not self._app.flow_control.is_active() or epoch != self._consumer.assignment_epoch:
                raise _Stopped
            await asyncio.sleep(pause)  # back-off: a server is away
            pause = min(RETRY_MAX, pause * 2)

    def _failed(self, number: int, exc: Exception, text: str) -> None:
        """Count a failure that passes. It is a sign of life, unless Kafka may be there and our client dead."""
        self._metrics.retries.add(self._name)
        self._stalls.failed(number, text)
        if not isinstance(exc, KafkaError) or kind(exc) is Kind.BARRED:
            self._watch.alive(self._name)

    async def _end(self, exc: Exception) -> None:
        """End the worker, in one line where an error says what to do."""
        if kind(exc) is Kind.DISK or isinstance(exc, TocsinError):
            log.critical("%s", exc)
        else:
            log.error("%s: a batch failed", self._name, exc_info=exc)
        await self._app.crash(exc)

    def _gone_on(self, stalls: Sequence[Stall], *, done: bool) -> None:
        for stall in stalls if done else ():
            log.warning("%s: %s goes on again after %.0f s", self._name, stall.place(), stall.seconds)

    async def _finished(self, messages: Sequence[Any], epoch: int, work: Work) -> bool:
        """Do work beside the turnstile, for these messages; False: the partitions are being taken away.

        Work that is refused as a whole is logged, counted and given up.
        """
        number = next(self._works)
        done = False
        try:
            if refusal := await self._done(number, messages, epoch, work):
                log.error("%s: work for %d records is refused and given up: %s", self._name, len(messages), refusal)
                self._metrics.refused.add(self._name)
            done = True
        except _Stopped:
            pass
        finally:
            self._gone_on(self._stalls.end(number), done=done)
        return done

    def _ack_later(self, messages: Sequence[Any], work: Work, epoch: int) -> None:
        async def wait() -> None:
            done = False
            try:
                done = await self._finished(messages, epoch, work)
            finally:
                if done:
                    self._consumer.ack_all(messages, epoch)
                else:
                    self._consumer.abandon(messages)

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
