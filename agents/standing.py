"""Which lanes of this worker stand still, and what Kafka deleted before they came to it: said, counted, and shown."""

import asyncio
import logging
import time
from collections import deque
from typing import Final

from faust.types import TP

from schemas.bus import Deleted, StandsStill, WorkerLease
from streams.stalls import Stalls, told
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)

STEP: Final = 1.0  # s between looks
RANGES: Final = 20  # deleted ranges that are remembered, the last ones


class Standing:
    """What stands still in one worker process."""

    def __init__(self, name: str, metrics: WorkerMetrics) -> None:
        self._name = name
        self._metrics = metrics
        self._agents: dict[str, Stalls] = {}
        self._deleted: deque[Deleted] = deque(maxlen=RANGES)

    def of(self, agent: str) -> Stalls:
        """Return where an agent says what it tries."""
        stalls = self._agents[agent] = Stalls()
        self._metrics.stalled.labels(agent).set_function(lambda: len(stalls.standing()))
        return stalls

    async def look_for_ever(self) -> None:
        """Look once a second; a stretch in which this process was frozen does not count."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(STEP)
            now = time.monotonic()
            self.look(min(now - last, 2 * STEP))
            last = now

    def look(self, elapsed: float) -> None:
        """Count `elapsed` more seconds, and say what stands still since now."""
        for agent, stalls in self._agents.items():
            for stall in stalls.look(elapsed):
                log.error(
                    "%s stands still: its record at %s has been tried for %.0f s: %s",
                    agent, stall.place(), stall.seconds, stall.error,
                )  # fmt: skip
                self._metrics.stalls.add(agent)

    def deleted(self, tp: TP, first: int, last: int) -> None:
        """Note that Kafka deleted these offsets of a source before they were processed."""
        self._metrics.deleted.add(tp.topic, last - first + 1)
        self._deleted.append(Deleted(tp.topic, tp.partition, first, last, round(time.time() * 1000)))

    def not_ready(self) -> str | None:
        """Return what stands still, None if nothing does."""
        return told([stall for stalls in self._agents.values() for stall in stalls.standing()])

    def lease(self, partitions: int) -> WorkerLease:
        """Return what this worker says of itself, to operators on other machines."""
        standing = [stall for stalls in self._agents.values() for stall in stalls.standing()]
        return WorkerLease(
            name=self._name,
            partitions=partitions,
            standing=[StandsStill(s.topic, s.partition, s.offset, s.seconds, s.error) for s in standing[:RANGES]],
            deleted=list(self._deleted),
        )
