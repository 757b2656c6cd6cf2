"""How far the consumption of one partition has come: what was delivered, what was acked, what may be committed.

Pure: the consumer asks it about every record of a fetch and every ack. Two rules keep records from being lost:

contiguity  A fetch that begins beyond the wanted offset is not delivered but read again. Only when the second fetch
            begins with the very same hole is the hole real (compaction, a transaction marker).
watermark   What may be committed is the end of the unbroken run of delivered and acked offsets.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum


class Admission(Enum):
    """What to do with a record that was fetched."""

    DELIVER = "deliver"
    OLD = "old"  # delivered before, or nothing is wanted of the partition
    HOLE = "hole"  # records before it are missing: seek back to `wanted`


class Progress:
    """The progress of one partition within one assignment; offsets are Kafka's."""

    __slots__ = (
        "_acked", "_acked_to", "_begun", "_confirmed", "_delivered", "_hole", "_sought", "committed", "wanted",
        "watermark",
    )  # fmt: skip

    def __init__(self) -> None:
        self.wanted: int | None = None  # the next offset to deliver
        self.watermark: int | None = None  # everything below it was delivered and acked
        self.committed: int | None = None  # what the broker has taken
        self._delivered: deque[range] = deque()  # not yet below the watermark: runs, so that many cost as little as few
        self._acked: set[int] = set()
        self._acked_to = 0  # everything delivered below it is acked
        self._hole: tuple[int, int] | None = None  # (wanted, got) for which the partition was sought back
        self._confirmed: tuple[int, int] | None = None
        self._begun = False
        self._sought: tuple[int, int] | None = None  # (wanted, end) for which the partition was read again

    def start(self, offset: int, committed: int | None) -> None:
        """Begin at `offset`."""
        self.wanted = offset
        self.committed = committed

    def skip_to(self, first: int) -> tuple[int, int] | None:
        """Go on at the first offset that Kafka still has; return which were passed over (first, last), if any.

        They count as done, so that what is committed passes them as well.
        """
        if self.wanted is None or first <= self.wanted:
            return None
        passed = (self.wanted, first - 1)
        self.wanted, self._hole, self._sought = first, None, None
        if not self._delivered:
            self.watermark = first
        return passed

    def begin_fetch(self) -> None:
        """Note that the records to come are of one new fetch."""
        self._confirmed, self._hole, self._begun = self._hole, None, False

    def admit(self, offset: int) -> Admission:
        """Decide about a record. If it is to be delivered it counts as delivered from here on."""
        wanted = self.wanted
        if wanted is None or offset < wanted:
            return Admission.OLD
        if offset > wanted and not self._begun and self._confirmed != (wanted, offset):
            self._hole = (wanted, offset)
            return Admission.HOLE
        self._begun = True  # a fetch is given whole, so a hole inside it is real
        self._acked.discard(offset)  # an ack counts only after the delivery
        self._deliver(offset, offset)
        return Admission.DELIVER

    def admit_all(self, first: int, last: int, count: int) -> bool:
        """Let a whole fetch count as delivered if it is just what is wanted, without a hole; else change nothing."""
        if first != self.wanted or last - first + 1 != count:
            return False
        self._begun = True
        self._acked.difference_update(range(first, last + 1))  # an ack counts only after the delivery
        self._deliver(first, last)
        return True

    def _deliver(self, first: int, last: int) -> None:
        delivered = self._delivered
        if delivered and delivered[-1].stop == first:
            delivered[-1] = range(delivered[-1].start, last + 1)
        else:
            delivered.append(range(first, last + 1))
        self.wanted = last + 1

    def missing(self, end: int) -> bool:
        """Return whether to read again from `wanted` if nothing came of a partition that ends at `end`.

        Once for each end: what does not come the second time is no record (compaction, a transaction marker).
        """
        if self.wanted is None or end <= self.wanted or self._sought == (self.wanted, end):
            return False
        self._sought = (self.wanted, end)
        return True

    def undo(self, offset: int) -> None:
        """Take back the last admission: the delivery was cut short."""
        if self._delivered and self._delivered[-1].stop == offset + 1:
            last = self._delivered.pop()
            if len(last) > 1:
                self._delivered.append(range(last.start, offset))
            self.wanted = offset

    def ack(self, offsets: Iterable[int]) -> None:
        """Note that the effects of records are durable."""
        self._acked.update(offsets)

    def ack_through(self, offset: int) -> None:
        """Note that the effects of all that was delivered up to a record, and of itself, are durable."""
        self._acked_to = max(self._acked_to, offset + 1)

    def committable(self) -> int | None:
        """Return the offset to commit, or None if the broker has it already."""
        delivered, acked = self._delivered, self._acked
        while delivered:
            first, end = delivered[0].start, delivered[0].stop
            at = min(end, max(first, self._acked_to))
            while at < end and at in acked:
                acked.discard(at)
                at += 1
            if at > first:
                self.watermark = at
            if at < end:
                delivered[0] = range(at, end)
                break
            delivered.popleft()
        if self.watermark is None or (self.committed is not None and self.watermark <= self.committed):
            return None
        return self.watermark

    @property
    def in_flight(self) -> int:
        """How many records are delivered and not yet below the watermark."""
        return sum(map(len, self._delivered))
