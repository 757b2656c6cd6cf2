"""The shell of an agent whose records are merged in memory and become durable together, from time to time.

Its records are many and say little: what they say is merged at once, without the turnstile, since the order among
agents means nothing to what only grows. None is held for itself. Of each partition only the last merged record is
remembered, and all up to it are acked by the flush that follows. What waits is bounded by what was merged (distinct
watermarks), not by records.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from faust.types import TP

from streams.runner import Batch, Runner, Work

MOST_WAITING: Final = 100_000  # watermarks that the store may not have yet; above it nothing is taken


class MergingRunner(Runner):
    """Runs such an agent.

    `merge` takes records and returns work that has to be done before they count, or None. `flush` returns when all that
    was merged so far is durable, `waiting` says how much is not. After each batch it pauses for as long as the batch
    took while others have work (`rests`).
    """

    def __init__(
        self,
        app: Any,
        turnstile: Any,
        merge: Callable[[Iterable[Any]], Work | None],
        *,
        flush: Callable[[], Awaitable[None]],
        waiting: Callable[[], int],
        **options: Any,
    ) -> None:
        super().__init__(app, turnstile, self._never, reject=self._never_rejected, **options)
        self._merge = merge
        self._flush = flush
        self._unflushed = waiting
        self._last: dict[TP, Any] = {}  # the last merged record of each partition
        self._epoch = -1  # the assignment of those
        self._flushing: asyncio.Task[None] | None = None

    async def _never(self, _batch: Batch) -> None:
        raise NotImplementedError("a merging agent has no batches")

    async def _never_rejected(self, _message: Any, _refusal: Exception) -> None:
        raise NotImplementedError("a merging agent has no batches")

    async def __call__(self, stream: Any) -> None:
        """Consume a Faust stream until it is stopped; this is the body of the Faust agent."""
        if self._app.should_stop:
            return
        queue = stream.channel.queue
        self._consumer.inlet.open(stream.channel.get_topic_name(), queue)
        self._metrics.buffered.labels(self._name).set_function(lambda: queue.qsize())  # noqa: PLW0108 - looked up late
        while True:
            try:
                first = await queue.get()
            except StopAsyncIteration:  # how Faust stops a stream
                return
            while self._flushing and not self._flushing.done() and self._unflushed() >= MOST_WAITING:
                await asyncio.wait((self._flushing,))
            begun = time.perf_counter()
            messages = self._take(first, queue)
            if messages:
                await self._run(messages)
            rest = time.perf_counter() - begun if self._turnstile.busy_lately(self._rests) else 0.0
            await asyncio.sleep(rest)

    async def _run(self, messages: list[Any]) -> None:
        begun = time.perf_counter()
        epoch = self._consumer.assignment_epoch
        work = self._merge(messages)
        elapsed = time.perf_counter() - begun
        if work is None or await self._finished(messages, epoch, work):
            self._remember(messages, epoch)
            if self._flushing is None or self._flushing.done():
                self._flushing = asyncio.create_task(self._flush_all())
        self._slice.learn(len(messages), elapsed)
        self._metrics.batch(self._name, len(messages), elapsed)

    def _remember(self, messages: list[Any], epoch: int) -> None:
        if epoch != self._epoch:
            self._consumer.abandon(self._last.values())
            self._last, self._epoch = {}, epoch
        last = {message.tp: message for message in messages}
        self._consumer.abandon([self._last[tp] for tp in last if tp in self._last])
        self._consumer.track(last.values())
        self._last |= last

    async def _flush_all(self) -> None:
        while self._last:
            last, epoch, self._last = self._last, self._epoch, {}
            done = False
            try:
                done = await self._finished(list(last.values()), epoch, self._flush)
            finally:
                if done:
                    self._consumer.ack_through(last, epoch)
                else:
                    self._consumer.abandon(last.values())
