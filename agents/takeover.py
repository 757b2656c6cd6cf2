"""A log's head for a worker that was not its last owner: what it takes for judged it first makes its own.

A record at or before the head was judged by a former owner, whose rows and head the store may still hold under that
one's epoch. A second former owner, of a later epoch and frozen since, may then write over them: a shorter append of it
would set the head back below what this worker has acked. So rows and head are written again under this worker's epoch,
and only then is it read what they say.

That is enough for what was acked before, too: who acked it had it under its own epoch. Only owners after that one can
write over it, and they begin at what was committed, and after the head.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from schemas.rows import Head, Range, Rewrite
from store.port import Store
from streams.inbox import Incoming

NEAR: Final = 64  # rows up to the head that are written again at once, whichever records the batch has
PROBED: Final = 64  # logs in which a row is searched at the same time: one row of each is in memory


class Wanted(NamedTuple):
    """The records of a log that are to be judged, in their order, and the epoch of its partition."""

    epoch: int
    records: Sequence[Incoming]


async def heads_of(store: Store, logs: Mapping[str, Wanted]) -> dict[str, Head]:
    """Return the heads of logs after all that the records rely on has been written under their epochs."""
    heads = await store.heads(list(logs))
    known = {log: wanted for log, wanted in logs.items() if wanted.records[0].src <= heads[log].src}
    if known:
        firsts = await _firsts(store, {log: (wanted.records[0].src, heads[log]) for log, wanted in known.items()})
        await store.rewrite(
            [
                Rewrite(log, wanted.epoch, firsts[log], firsts[log] + max(NEAR, len(wanted.records)) - 1)
                for log, wanted in known.items()
            ]
        )
        heads |= await store.heads(list(known))
    return heads


async def _firsts(store: Store, wanted: Mapping[str, tuple[int, Head]]) -> dict[str, int]:
    """Return for each log the seq of its first row at or after a source position."""
    firsts = {}
    far = {}
    for log, (src, head) in wanted.items():
        later = [mark.seq for mark in head.recent if mark.src >= src]
        firsts[log] = later[-1] if later else head.seq
        if len(later) == len(head.recent) and firsts[log] > 1:
            far[log] = (src, firsts[log])
    logs = list(far)
    for start in range(0, len(logs), PROBED):
        firsts |= await _searched(store, {log: far[log] for log in logs[start : start + PROBED]})
    return firsts


async def _searched(store: Store, wanted: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Search logs for the first row at or after a source position, given (position, a row that is): rows are in order.

    A row that is missing counts as one that lies before.
    """
    low = dict.fromkeys(wanted, 0)
    high = {log: seq for log, (_, seq) in wanted.items()}
    while far := [log for log in wanted if high[log] - low[log] > 1]:
        middles = [Range(log, (low[log] + high[log]) // 2, (low[log] + high[log]) // 2) for log in far]
        for middle, found in zip(middles, await store.read(middles), strict=True):
            later = bool(found) and found[0].src >= wanted[middle.log][0]
            (high if later else low)[middle.log] = middle.first
    return high
