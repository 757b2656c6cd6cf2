"""The agent of acknowledgements: merges what gateways pack into the topic `acks`."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from agents.cursors import CursorWriter
from agents.parts import Parts
from schemas.errors import BadRecord
from schemas.records import decode_acks, sifted_acks
from streams.producer import Emit
from streams.runner import Work


class AcksAgent:
    """Merges acks; what cannot be merged goes to the dead letters."""

    def __init__(self, parts: Parts, cursors: CursorWriter) -> None:
        self._cursors = cursors
        self._producer = parts.producer
        self._dead_letters = parts.dead_letters
        self._metrics = parts.metrics

    def merge(self, messages: Iterable[Any]) -> Work | None:
        """Merge records of acks; return the work of writing dead letters, if there are any."""
        letters: list[Emit] = []
        add = self._cursors.add
        for message in messages:
            try:
                if wrong := add(decode_acks(message.value).acks):
                    letters.append(self._letter(message, wrong))
            except BadRecord:
                letters += self._sifted(message)
        return partial(self._producer.emit, letters) if letters else None

    def _sifted(self, message: Any) -> list[Emit]:
        """Merge the good items of a record that was refused as a whole."""
        try:
            found = sifted_acks(message.value)
        except BadRecord as exc:
            return [self._dead_letters.letter(message, exc.code, str(exc))]
        return [self._letter(message, found.wrong + self._cursors.add(found.record.acks))]

    def _letter(self, message: Any, wrong: list[str]) -> Emit:
        self._metrics.bad_items.inc(len(wrong))
        return self._dead_letters.letter(message, "bad_request", "; ".join(wrong))
