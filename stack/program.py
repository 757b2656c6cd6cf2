"""One of our own processes (a worker, a gateway): started as a command, ready when its health page says so."""

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.errors import ServerFailed
from stack.child import Child
from stack.ports import LOOPBACK

_ANSWER_WITHIN: Final = 2.0  # s
_LONGEST_ANSWER: Final = 4096  # bytes


class _Health(msgspec.Struct):
    reasons: dict[str, Any]


class Program:
    """A command of ours with a port for `/metrics` and `/health/ready`."""

    durable = True  # what it needs is in the store and in Kafka

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        metrics_port: int,
        log: Path,
        stop_within: float,
    ) -> None:
        self.name = self.role = name
        self.log = log
        self.metrics_port = metrics_port
        self.unready = "it has not been asked yet"  # why it was not ready when it was asked last
        self._stop_within = stop_within
        self._child = Child(name, command, log=log, environment=environment)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._child.running

    @property
    def metrics_url(self) -> str:
        """Where its metrics are."""
        return f"http://{LOOPBACK}:{self.metrics_port}/metrics"

    def spawn(self) -> None:
        """Start it without waiting."""
        self._child.spawn()

    def ready(self) -> bool:
        """Return whether it says that it is ready; if not, `unready` says why. Raises `ServerFailed` if it ended."""
        if not self.running:
            raise ServerFailed(self.obituary())
        connection = http.client.HTTPConnection(LOOPBACK, self.metrics_port, timeout=_ANSWER_WITHIN)
        try:
            connection.request("GET", "/health/ready")
            answer = connection.getresponse()
            self.unready = _reasons(answer.read(_LONGEST_ANSWER))
        except (OSError, http.client.HTTPException) as exc:
            self.unready = f"no answer on its metrics port ({exc})"
            return False
        finally:
            connection.close()
        return answer.status == http.HTTPStatus.OK

    def stop(self) -> None:
        """Ask it to end, kill it when that takes too long."""
        self._child.stop(self._stop_within)

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def obituary(self) -> str:
        """Return one line about how it ended."""
        return self._child.obituary()


def _reasons(answer: bytes) -> str:
    """Return what a health page says is not ready yet, in one line."""
    try:
        reasons = msgspec.json.decode(answer, type=_Health).reasons.values()
    except msgspec.MsgspecError:
        return " ".join(answer.decode(errors="replace").split())
    return ", ".join(str(reason) for reason in reasons)
