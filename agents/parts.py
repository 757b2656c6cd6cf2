"""What the agents of one worker share."""

from dataclasses import dataclass

from agents.deadletters import DeadLetters
from agents.ownership import Ownership
from agents.publisher import Publisher
from agents.sources import Sources
from agents.statuses import Statuses
from store.port import Store
from streams.producer import BatchProducer
from tables.connections import ConnectionTable
from tables.logs import LogTable
from telemetry.worker import WorkerMetrics


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The ends that effects go to, and the tables that rules read."""

    store: Store
    producer: BatchProducer
    publisher: Publisher
    ownership: Ownership
    dead_letters: DeadLetters
    statuses: Statuses
    sources: Sources
    logs: LogTable
    connections: ConnectionTable
    metrics: WorkerMetrics
