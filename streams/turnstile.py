"""The turnstile of a worker: one micro-batch at a time from take to ack, the most urgent agent first.

Nothing else orders two agents of a worker. It makes "register the session and note the heads" one step, and keeps a
backlog of `bulk` from standing in front of `critical`.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

LATELY: Final = 1.0  # s


class Turnstile:
    """Lets one holder through at a time; among those that wait the lowest `priority` goes first, then the oldest."""

    def __init__(self) -> None:
        self._busy = False
        self._arrivals = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._last: dict[int, float] = {}  # when each priority last had its turn

    @asynccontextmanager
    async def turn(self, priority: int) -> AsyncIterator[None]:
        """Hold the turnstile for the length of a `with` block."""
        await self._enter(priority)
        self._last[priority] = time.monotonic()
        try:
            yield
        finally:
            self._leave()

    def busy_lately(self, priorities: Iterable[int]) -> bool:
        """Say whether one of these priorities has had a turn within the last second."""
        now = time.monotonic()
        return any(now - self._last.get(priority, -LATELY) < LATELY for priority in priorities)

    async def _enter(self, priority: int) -> None:
        if not self._busy:
            self._busy = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._arrivals), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the turn came together with the cancellation: pass it on
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False


class Beside:
    """Work beside the turnstile, in turns of its own: one at a time, and not more than half of the time.

    After each turn comes a pause as long as the turn was, while an agent of a priority in `live` has turns too. Of work
    that is not urgent the pause holds up its own next turn only.
    `alive` is told of each turn that has come to its end: long work is no stuck work.
    """

    def __init__(self, turnstile: Turnstile, live: Iterable[int], alive: Callable[[], None]) -> None:
        self._turnstile = turnstile
        self._live = tuple(live)
        self._alive = alive
        self._one = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, *, urgent: bool = True) -> AsyncIterator[None]:
        """Work for the length of a `with` block."""
        async with self._one:
            begun = time.monotonic()
            yield
            self._alive()
            if urgent:
                await self._rest(begun)
        if not urgent:
            await self._rest(begun)

    async def _rest(self, begun: float) -> None:
        if self._turnstile.busy_lately(self._live):
            await asyncio.sleep(time.monotonic() - begun)
