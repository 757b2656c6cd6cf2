"""When a worker looks for cyclic garbage: by the clock, not by how many objects there are.

A record makes objects without cycles, which go at once; but what one fetch brings is enough to reach Python's own
thresholds, and then all of it is looked at, for nothing. Failures do make cycles (a traceback knows its frames, and the
frames know it), so while a server is away somebody has to look.
"""

import asyncio
import gc
import time
from typing import Final

OBJECTS: Final = 500_000  # new ones after which Python looks by itself
EVERY: Final = 10.0  # s
MANY: Final = 50_000  # new objects, of which each is looked at: some 25 ms
PATIENCE: Final = 60.0  # s without a look, at the most
ALL: Final = 3600.0  # s after which a look takes the old objects as well


def seldom() -> None:
    """Leave alone what is here now, for it stays, and look seldom from now on."""
    gc.freeze()
    gc.set_threshold(OBJECTS, 20, 20)


class Looks:
    """When to look; `now` is monotonic seconds.

    A worker with a backlog holds many new objects, all of them in use: a look takes long and finds nothing.
    """

    def __init__(self, now: float) -> None:
        self._looked = self._looked_at_all = now

    def due(self, new: int, now: float) -> int | None:
        """Return the oldest generation to look at, given the number of new objects; None: not now."""
        if new > MANY and now - self._looked < PATIENCE:
            return None
        self._looked = now
        if now - self._looked_at_all < ALL:
            return 1
        self._looked_at_all = now
        return 2


async def collect_for_ever() -> None:
    """Look every `EVERY` s, or less often where that takes long, until cancelled."""
    looks = Looks(time.monotonic())
    while True:
        await asyncio.sleep(EVERY)
        generation = looks.due(gc.get_count()[0], time.monotonic())
        if generation is not None:
            gc.collect(generation)
