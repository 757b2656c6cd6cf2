"""Sessions of gateways that are dead leave the table: a look at all of it, little by little, without end.

A gateway that was killed says nothing of its sessions, and their users may never come back. The table names gateways
that this worker never heard of, too; each is looked for from then on, and found alive or dead.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from agents.ownership import Ownership
from agents.publisher import Publisher
from schemas.errors import Kind
from streams.connections import Place
from streams.failures import PASSING, kind
from streams.producer import BatchProducer
from streams.turnstile import Turnstile
from tables.connections import ConnectionTable
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)

EVERY: Final = 0.5  # s between two looks
VALUES: Final = 256  # of the table that one look takes, some milliseconds
PRIORITY: Final = 9  # of the turnstile: whoever waits goes first


class Sweep:
    """Looks at the partitions that are owned, one after the other."""

    def __init__(
        self,
        table: ConnectionTable,
        producer: BatchProducer,
        publisher: Publisher,
        ownership: Ownership,
        turnstile: Turnstile,
        metrics: WorkerMetrics,
    ) -> None:
        self._table = table
        self._producer = producer
        self._publisher = publisher
        self._ownership = ownership
        self._turnstile = turnstile
        self._metrics = metrics
        self._epochs: Mapping[int, int] = {}
        self._left: list[int] = []  # partitions that this round has not finished; the last is next
        self._after = b""
        self._dead: set[str] = set()  # who was dead when the round began

    async def run(self) -> None:
        """Sweep until cancelled. Raises what is no failure of a server."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                async with self._turnstile.turn(PRIORITY):
                    await self.look()
            except Exception as exc:
                if kind(exc) not in (*PASSING, Kind.REFUSED):
                    raise
                log.warning("the sweep of sessions failed and goes on later: %s: %s", type(exc).__name__, exc)

    async def look(self) -> None:
        """Take one look, under the turnstile. Raises `TableBroken`, and what a Kafka that is away raises."""
        epochs = dict(self._ownership.epochs)
        if not self._left or epochs != self._epochs:
            self._begin(epochs)
        if not self._left:
            return
        partition = self._left[-1]
        found = self._table.look(partition, self._after, VALUES)
        gone: dict[str, dict[str, Place | None]] = {}
        for user, sessions in found.sessions:
            for session, place in sessions.items():
                self._publisher.know(place.gateway)
                if place.gateway in self._publisher.dead:
                    gone.setdefault(user, {})[session] = None
        if gone or found.junk:
            await self._table.write(self._producer, {partition: gone}, {partition: found.junk})
            self._metrics.swept.inc(sum(map(len, gone.values())))
        if found.last is not None:
            self._after = found.last
            return
        self._left.pop()
        self._after = b""
        if not self._left:
            self._publisher.bury(self._dead)

    def _begin(self, epochs: Mapping[int, int]) -> None:
        self._epochs = epochs
        self._left = sorted(epochs)
        self._after = b""
        self._dead = set(self._publisher.dead)
