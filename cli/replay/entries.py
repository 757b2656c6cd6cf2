"""Finds the rows that records have become: rows are in the order of their source positions, so it is a search."""

from collections.abc import Mapping, Sequence
from typing import Final

from schemas.rows import Range, Row
from store.port import Store

NEAR: Final = 200  # rows that are read rather than halved again
PAGE: Final = 500  # rows that are read at a time


async def rows_of(store: Store, wanted: Mapping[str, Sequence[int]]) -> dict[tuple[str, int], Row]:
    """Return the rows of source positions by (log, position); `wanted` are the positions by the store's log keys."""
    heads = await store.heads(list(wanted), recent=0)
    first = {log: min(positions) for log, positions in wanted.items()}
    low = {log: 0 for log in wanted if heads[log].seq}  # every row up to it lies before the first wanted
    high = {log: heads[log].seq for log in low}
    while far := [log for log in low if high[log] - low[log] > NEAR]:
        middles = [Range(log, (low[log] + high[log]) // 2, (low[log] + high[log]) // 2) for log in far]
        for middle, found in zip(middles, await store.read(middles), strict=True):
            below = bool(found) and found[0].src < first[middle.log]
            (low if below else high)[middle.log] = middle.first
    return await _forward(store, wanted, low)


async def _forward(
    store: Store, wanted: Mapping[str, Sequence[int]], after: dict[str, int]
) -> dict[tuple[str, int], Row]:
    """Read each log on from a row until its last wanted position is passed."""
    sets = {log: set(positions) for log, positions in wanted.items()}
    last = {log: max(positions) for log, positions in wanted.items()}
    rows: dict[tuple[str, int], Row] = {}
    while after:
        ranges = [Range(log, seq + 1, seq + PAGE) for log, seq in after.items()]
        after = {}
        for asked, found in zip(ranges, await store.read(ranges), strict=True):
            rows |= {(asked.log, row.src): row for row in found if row.src in sets[asked.log]}
            if len(found) == PAGE and found[-1].src < last[asked.log]:
                after[asked.log] = found[-1].seq
    return rows
