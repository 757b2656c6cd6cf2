"""Dead letters: records that cannot be processed, as far as they fit, and why."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

from links.misfits import Misfit
from schemas.errors import Barred, Kind
from schemas.limits import KEPT_VALUE, POSITION_HEADER, TRUNCATED_HEADER
from streams.failures import kind
from streams.producer import Emit, Headers
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)

ERROR_LENGTH: Final = 500  # characters of the sentence that says why
OURS: Final = "tocsin-"


class DeadLettersBarred(Barred):
    """Kafka takes no dead letter, not even one without key, value and headers: see to the topic's configuration."""


class DeadLetters:
    """Makes dead letters and counts them; one a worker."""

    def __init__(self, topic: str, metrics: WorkerMetrics) -> None:
        self._topic = topic
        self._metrics = metrics

    def among(self, emits: Iterable[Emit]) -> Emit | None:
        """Return the first dead letter among records to be written, if there is one."""
        return next((emit for emit in emits if emit.topic == self._topic), None)

    async def write(self, emit: Callable[[Iterable[Emit]], Awaitable[None]], letter: Emit) -> None:
        """Write the letter of a refused record, or what is spare of it where Kafka refuses the letter as well.

        Raises `DeadLettersBarred` where Kafka takes neither, and what `emit` raises besides.
        """
        for form in filter(None, (letter, letter.spare)):
            try:
                await emit([form])
            except Exception as exc:
                if kind(exc) is not Kind.REFUSED:
                    raise
                log.warning("a dead letter is refused: %s", exc)
            else:
                return
        raise DeadLettersBarred

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
