"""Statuses: what became of a notification that did not go the usual way, and why."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from schemas.records import Status, encode
from schemas.rows import Row
from streams.collapse import COLLAPSING, entry_id, merged
from streams.producer import Emit
from telemetry.worker import WorkerMetrics


class Statuses:
    """Makes statuses; one a worker. Work that is done again makes the same status again."""

    def __init__(self, topic: str, metrics: WorkerMetrics) -> None:
        self._topic = topic
        self._metrics = metrics

    def status(self, id_: str, user: str, state: str, reason: str, ts: int) -> Emit:
        """Return the status of a notification that Kafka took at `ts` (ms since 1970)."""
        at = datetime.fromtimestamp(ts / 1000, UTC)
        status = Status(id=id_, user=user, channel="in_app", state=state, reason=reason, at=at)
        return Emit(self._topic, id_.encode(), encode(status))

    def merged(self, user: str, log: str, rows: Sequence[Row], devices: Iterable[str], now_ms: int) -> list[Emit]:
        """Return a status for each of `rows` that is not sent to one of the devices, since a later one replaces it."""
        if log != COLLAPSING or len(rows) < 2:
            return []
        replaced = frozenset[int]().union(*(merged(rows, log, device, now_ms) for device in set(devices)))
        found = [row for row in rows if row.seq in replaced]
        self._metrics.merged.inc(len(found))
        return [self.status(entry_id(row), user, "merged", "collapse_key", row.ts) for row in found]
