"""Notices a topic that was deleted and made again without `tocsin topics apply`.

Such a topic keeps its incarnation and begins at offset 0 again, so its first records would look as if they had been
judged before. What the store has processed of a partition must lie below the partition's end.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from faust.types import TP

from schemas.ids import source_parts
from schemas.rows import Head
from streams.inbox import Incoming
from streams.remade import TopicRemade

Ends = Callable[..., Awaitable[Mapping[TP, int]]]


class Sources:
    """The ends of the partitions that this worker reads, asked for where something in the store lies beyond."""

    def __init__(self, ends: Ends, *, exact: bool = True) -> None:
        """Begin; `ends` returns the end offsets of the partitions that it is given."""
        self._ends = ends
        self._exact = exact  # False: what Kafka says of ends says nothing
        self._known: dict[TP, int] = {}

    def forget(self) -> None:
        """Forget the ends: the partitions are being given up, and may be made again before they come back."""
        self._known.clear()

    async def check(self, topic: str, incarnation: int, heads: Iterable[tuple[int, Head, list[Incoming]]]) -> None:
        """Compare heads of logs (partition, head, records to be judged) with the topic.

        Raises `TopicRemade`.
        """
        seen: dict[TP, int] = {}
        for partition, head, records in heads:
            made, offset = source_parts(head.src)
            tp = TP(topic, partition)
            if made == incarnation and head.seq and offset >= self._known.get(tp, 0):
                seen[tp] = max(offset, seen.get(tp, 0))
            keys = {mark.src: mark.key for mark in head.recent}
            for record in records:
                if keys.get(record.src, record.key) != record.key:
                    raise TopicRemade.at(tp, source_parts(record.src)[1])
        if not (seen and self._exact):
            return
        for tp, end in (await self._ends(*seen)).items():
            self._known[TP(*tp)] = end
            if (offset := seen[TP(*tp)]) >= end:
                raise TopicRemade.beyond(TP(*tp), end, offset)
