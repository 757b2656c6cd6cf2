"""The gateway's end of the bus, Sans-I/O: notices what was lost and refuses what a former owner still says.

Redis is never trusted to have delivered. The messages of a stream are numbered: a number that does not come within
`PATIENCE` (a worker publishes over several connections, so neighbours may swap), a beat that names a higher number, or
a stream that has fallen silent makes its partitions suspect, and all their sessions are synced.
"""

from collections import defaultdict
from typing import Final

from gateway.effects import AnnouncePartition, FeedEffect, SyncPartitions
from schemas.bus import Beat, Heard, HeardPart

PATIENCE: Final = 0.2  # s that a missing number is waited for
SILENCE: Final = 25.0  # s without a word of a stream that owns partitions here; beats come every 10 s
MAX_MISSING: Final = 64  # numbers of a stream that are waited for


class _Stream:
    __slots__ = ("heard", "last", "missing", "partitions", "patient_until")

    def __init__(self, now: float) -> None:
        self.last = 0
        self.heard = now
        self.missing: set[int] = set()
        self.patient_until = 0.0
        self.partitions: set[int] = set()


class Feed:
    """What one gateway has heard of every stream. `now` is seconds of a steady clock."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._streams: dict[str, _Stream] = {}
        self._epochs: dict[int, int] = {}  # highest seen of each partition
        self.fenced = 0  # parts dropped because a newer owner was known
        self.gaps = 0  # times that something of a stream was missing

    def take(self, message: Heard | Beat, now: float) -> tuple[list[HeardPart], list[FeedEffect]]:
        """Return the parts that count, and what else has to be done before they are handed on."""
        stream = self._streams.setdefault(message.stream, _Stream(now))
        stream.heard = now
        effects: list[FeedEffect] = []
        if isinstance(message, Heard):
            parts = [part for part in message.parts if self._owned(stream, part.partition, part.epoch, effects)]
            self.fenced += len(message.parts) - len(parts)
            self._number(stream, message.number, effects, now)
            return parts, effects
        self._beat(stream, message, effects)
        return [], effects

    def _owned(self, stream: _Stream, partition: int, epoch: int, effects: list[FeedEffect]) -> bool:
        known = self._epochs.get(partition, 0)
        if epoch < known:
            stream.partitions.discard(partition)
            return False
        if epoch > known:
            self._epochs[partition] = epoch
            for other in self._streams.values():
                other.partitions.discard(partition)
            effects.append(AnnouncePartition(partition, epoch))
        stream.partitions.add(partition)
        return True

    def _number(self, stream: _Stream, number: int, effects: list[FeedEffect], now: float) -> None:
        if number in stream.missing:
            stream.missing.discard(number)
        elif number <= stream.last or number - stream.last > MAX_MISSING:
            self._suspect(stream, effects)  # it counts anew, or more is lost than is worth waiting for
            stream.last = number
        elif number > stream.last + 1:
            if not stream.missing:
                stream.patient_until = now + PATIENCE
            stream.missing.update(range(stream.last + 1, number))
        stream.last = max(stream.last, number)

    def _beat(self, stream: _Stream, beat: Beat, effects: list[FeedEffect]) -> None:
        stream.partitions.intersection_update(beat.partitions)
        for partition, epoch in beat.partitions.items():
            self._owned(stream, partition, epoch, effects)
        number = beat.numbers.get(self._gateway, 0)
        if number > stream.last:
            self._suspect(stream, effects)
            stream.last = number

    def _suspect(self, stream: _Stream, effects: list[FeedEffect]) -> None:
        self.gaps += 1
        stream.missing.clear()
        if stream.partitions:
            effects.append(SyncPartitions(frozenset(stream.partitions)))

    def tick(self, now: float) -> list[FeedEffect]:
        """Return what has to be done about numbers that did not come and streams that are silent."""
        effects: list[FeedEffect] = []
        for name, stream in list(self._streams.items()):
            if stream.missing and now >= stream.patient_until:
                self._suspect(stream, effects)
            if now - stream.heard > SILENCE:
                if not stream.partitions:
                    del self._streams[name]
                    continue
                stream.heard = now  # once a period
                self._suspect(stream, effects)
        return effects

    def restart(self) -> None:
        """Forget the numbers: the connection was lost and everything is synced anyway."""
        for stream in self._streams.values():
            stream.missing.clear()

    def owners(self) -> dict[str, int]:
        """Return how many partitions each stream owns, for operators."""
        owned: defaultdict[str, int] = defaultdict(int)
        for name, stream in self._streams.items():
            owned[name] += len(stream.partitions)
        return dict(owned)
