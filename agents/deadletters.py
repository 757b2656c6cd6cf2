"""Dead letters: records that cannot be processed, as far as they fit, and why."""

from collections.abc import Iterator
from typing import Any, Final

from links.misfits import Misfit
from schemas.limits import KEPT_VALUE, POSITION_HEADER, TRUNCATED_HEADER
from streams.producer import Emit, Headers
from telemetry.worker import WorkerMetrics

ERROR_LENGTH: Final = 500  # characters of the sentence that says why
OURS: Final = "tocsin-"


class DeadLetters:
    """Makes dead letters and counts them; one a worker."""

    def __init__(self, topic: str, metrics: WorkerMetrics) -> None:
        self._topic = topic
        self._metrics = metrics

    def letter(self, message: Any, code: str, error: str) -> Emit:
        """Return the dead letter of a record; `code` is one of `schemas.records.REASONS`.

        Its value has at most `KEPT_VALUE` bytes. What could not be read, or was over the limits of a record when it was
        read, says itself why.
        """
        value: Any = message.value
        offset, cut = message.offset, ""
        last: Headers = ()
        if isinstance(value, Misfit):
            if value.first != offset:
                last = (("tocsin-last-offset", str(offset).encode()),)
            value, offset, cut, code, error = value.kept, value.first, value.cut, value.code, value.error
        elif value is not None and len(value) > KEPT_VALUE:
            value, cut = value[:KEPT_VALUE], f"value={len(value)}"
        self._metrics.dead_letters.add(code)
        said: Headers = (
            ("tocsin-topic", message.topic.encode()),
            ("tocsin-partition", str(message.partition).encode()),
            ("tocsin-offset", str(offset).encode()),
            *last,
            ("tocsin-time", str(round(message.timestamp * 1000)).encode()),  # part of the id that it has there
            ("tocsin-reason", code.encode()),
            ("tocsin-error", error[:ERROR_LENGTH].encode("utf-8", "replace")),
        )
        whole = (*_kept(message.headers or ()), *said, *(((TRUNCATED_HEADER, cut.encode()),) if cut else ()))
        spare = Emit(self._topic, None, b"", (*said, (TRUNCATED_HEADER, b"key,value,headers")))
        return Emit(self._topic, message.key, value, whole, spare=spare)


def _kept(headers: Headers) -> Iterator[tuple[str, bytes]]:
    """Yield the headers of a record that may not be taken for those that we write."""
    return (header for header in headers if header[0] == POSITION_HEADER or not header[0].startswith(OURS))
