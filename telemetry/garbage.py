"""When a worker looks for cyclic garbage: by the clock, not by how many objects there are.

A record makes objects without cycles, which go at once; but what one fetch brings is enough to reach Python's own
thresholds, and then all of it is looked at, for nothing. Failures do make cycles (a traceback knows its frames, and the
frames know it), so while a server is away somebody has to look.
"""

import asyncio
import gc
from itertools import count
from typing import Final

OBJECTS: Final = 500_000  # new ones after which Python looks by itself
EVERY: Final = 10.0  # s
ALL: Final = 360  # looks, of which one takes the old objects as well: once an hour


def seldom() -> None:
    """Leave alone what is here now, for it stays, and look seldom from now on."""
    gc.freeze()
    gc.set_threshold(OBJECTS, 20, 20)


async def collect_for_ever() -> None:
    """Look every `EVERY` s until cancelled."""
    for number in count(1):
        await asyncio.sleep(EVERY)
        gc.collect(2 if number % ALL == 0 else 1)
