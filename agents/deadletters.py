"""Dead letters: records that cannot be processed, with key and value untouched, and why."""

from typing import Any

from streams.producer import Emit
from telemetry.worker import WorkerMetrics

ERROR_LENGTH = 500  # characters of the sentence that says why


class DeadLetters:
    """Makes dead letters and counts them; one a worker."""

    def __init__(self, topic: str, metrics: WorkerMetrics) -> None:
        self._topic = topic
        self._metrics = metrics

    def letter(self, message: Any, code: str, error: str) -> Emit:
        """Return the dead letter of a record; `code` is one of `schemas.records.REASONS`."""
        self._metrics.dead_letters.add(code)
        return Emit(
            topic=self._topic,
            key=message.key,
            value=message.value,
            headers=(
                *(message.headers or ()),
                ("tocsin-topic", message.topic.encode()),
                ("tocsin-partition", str(message.partition).encode()),
                ("tocsin-offset", str(message.offset).encode()),
                ("tocsin-time", str(round(message.timestamp * 1000)).encode()),  # part of the id that it has there
                ("tocsin-reason", code.encode()),
                ("tocsin-error", error[:ERROR_LENGTH].encode()),
            ),
        )
