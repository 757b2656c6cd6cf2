"""How many records a micro-batch takes, learned from how long the last ones took. Pure."""

from typing import Final

LARGEST_BATCH: Final = 1_000  # records
SMALLEST_BATCH: Final = 32  # records


class Slice:
    """How many records a batch may take so that it holds the turnstile for about `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.limit = 128
        self._before = (0, 0.0)  # records and seconds of the last full batch

    def learn(self, records: int, elapsed: float) -> None:
        """Adjust the limit after a batch; a batch that was not full says little about a larger one.

        A server that takes its time for any batch, however small, is not asked more often than it must be.
        """
        full = self.limit <= records
        late = elapsed > self.seconds * 1.5
        if late and not (full and self._takes_its_time(records, elapsed)):
            # by a third, not to what this batch says: one stall of a server is no trend
            self.limit = max(SMALLEST_BATCH, min(self.limit, records) * 2 // 3)
        elif full and (late or elapsed <= self.seconds):
            self.limit = min(LARGEST_BATCH, self.limit * 3 // 2)
        if full:
            self._before = (records, elapsed)

    def _takes_its_time(self, records: int, elapsed: float) -> bool:
        """Say whether less than half of the time goes with the number of records, by this batch and the last one."""
        before, took = self._before
        if before == records:
            return records <= SMALLEST_BATCH  # it cannot shrink: a larger one will tell
        if not before or not took:
            return False
        return (elapsed / took - 1) / (records / before - 1) < 0.5
