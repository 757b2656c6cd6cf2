"""Where fetched records enter the queues of agents, in the place of Faust's conductor.

The conductor takes a lock, decodes key and value, and makes an event for every record, a fifth of what a small record
costs in all; the runner wants none of that. What it does for backpressure is done here as well: above four fifths of a
queue its topic leaves the fetches, and comes back below two fifths.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from faust.types import TP


class Buffered(Protocol):
    """Who is told of full queues: the consumer."""

    def on_buffer_full(self, tp: TP) -> None:
        """Leave out of the fetches what this partition's queue takes."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch it again."""


class Inlet:
    """Takes the records of a partition, all of a fetch at once where there is room, else one at a time."""

    def __init__(self, buffered: Buffered, flow: Any) -> None:
        """`flow` is the app's flow control: while it is suspended nothing enters a queue."""
        self._buffered = buffered
        self._flow = flow
        self._queues: dict[str, Any] = {}
        self._ways: dict[TP, tuple[Any, Any, Any]] = {}  # queue, what to call when it is full, and when it no longer is
        self._opened = asyncio.Event()

    def open(self, topic: str, queue: Any) -> None:
        """Let the records of a topic enter this queue from now on: its agent has begun, or begun again."""
        self._queues[topic] = queue
        self._ways = {tp: way for tp, way in self._ways.items() if tp.topic != topic}
        self._opened.set()

    def restart(self) -> None:
        """Forget who waits for room: an assignment has ended and the queues are emptied."""
        self._ways.clear()

    async def __call__(self, message: Any) -> None:
        """Put a record into its topic's queue, when there is one, it has room and the flow is on."""
        way = self._ways.get(message.tp) or await self._way(message.tp)
        if not self._flow.is_active():
            await self._flow.acquire()
        queue, full, dropped = way
        if queue.full():
            await queue.put(message)
        else:
            queue.put_nowait_enhanced(message, on_pressure_high=full, on_pressure_drop=dropped)

    def put_all(self, tp: TP, messages: Sequence[Any]) -> None:
        """Put records that `has_room` has said yes for into their topic's queue."""
        queue, full, dropped = self._ways[tp]
        for message in messages[:-1]:
            queue.force_put_nowait(message)
        queue.put_nowait_enhanced(messages[-1], on_pressure_high=full, on_pressure_drop=dropped)

    def has_room(self, tp: TP, count: int) -> bool:
        """Tell whether so many records of a partition may enter at once, without any wait."""
        way = self._ways.get(tp)
        return way is not None and self._flow.is_active() and way[0].maxsize - way[0].qsize() >= count

    async def _way(self, tp: TP) -> tuple[Any, Any, Any]:
        while tp.topic not in self._queues:
            self._opened.clear()
            await self._opened.wait()
        # each partition's own, and always the same: the queue tells by them who waits for room
        full, dropped = partial(self._buffered.on_buffer_full, tp), partial(self._buffered.on_buffer_drop, tp)
        way = self._ways[tp] = (self._queues[tp.topic], full, dropped)
        return way
