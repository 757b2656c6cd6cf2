"""Everything that is fuzzed, by name, and the messages of the bus among it."""

from typing import Final

import msgspec

from schemas import bus
from schemas.bus import Answer, Packed, Part, Run
from tests.fuzz import clients, producers, tokens
from tests.fuzz.target import Target

_RUNS: Final = [Run("inbox/normal", 1, 1, 1, b"{}"), Run("inbox/normal", 2, 4, reason="expired")]
MESSAGES: Final = tuple(
    bus.encode(message)
    for message in (
        Packed(stream="w", number=1, parts=[Part(0, 1, deliveries=[bus.Delivery("u1", ["g-1"], _RUNS)])]),
        Packed(stream="w", number=2, parts=[Part(0, 1, answers=[Answer("g-1", "inbox/normal", 0, 4, _RUNS)])]),
        bus.Beat(stream="w", partitions={0: 1}, numbers={"g": 2}),
    )
)


def message(data: bytes) -> None:
    """A message of the bus."""
    bus.decode(data)


_BUS: Final = Target("message", message, MESSAGES, (msgspec.DecodeError,), None, 3)
TARGETS: Final = {target.name: target for target in (*producers.TARGETS, *tokens.TARGETS, *clients.TARGETS, _BUS)}
