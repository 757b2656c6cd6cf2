"""The counting worker whose client loses fetches: `python -m tests.integration.tables.dropping_worker ...`."""

import random
import sys
from typing import Any

from bench.rebalance_worker import main
from streams.consumer import Consumer

KEPT = 3  # fetches after one that was lost: what gets lost twice in a row is taken for a hole

_fetch = Consumer._getmany
_since: dict[Any, int] = {}  # fetches since the last one that was lost, by partition


async def lossy(self: Consumer, *args: Any, **kwargs: Any) -> Any:
    records = await _fetch(self, *args, **kwargs)
    sources = all(tp.topic.endswith("events") for tp in records)
    lost = sources and all(_since.get(tp, KEPT) >= KEPT for tp in records) and random.random() < 0.2
    _since.update({tp: 0 if lost else _since.get(tp, KEPT) + 1 for tp in records})
    return {} if lost else records


if __name__ == "__main__":
    Consumer._getmany = lossy
    main(*sys.argv[1:])
