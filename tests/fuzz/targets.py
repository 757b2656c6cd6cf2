"""Everything that is fuzzed, by name, and the messages of the bus among it."""

from typing import Final

import msgspec

from gateway.passing import Position, Readers, Way, pass_all
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


class _Reader(Position):
    """Where a session stands; nothing is done with what it is sent."""


_WAY: Final = Way(lambda data: None, lambda: 0, -1)
_ENTRIES: Final = [bus.Delivery("u1", [f"g-{seq % 3}"], [Run("inbox/normal", seq, seq, 1, b"{}")]) for seq in range(9)]
DELIVERIES: Final = (
    bus.encode(_ENTRIES),
    bus.encode([bus.Delivery("u1", ["g-0", "g-1"], _RUNS), *_ENTRIES[:2], bus.Delivery("u1", ["g-2"], _RUNS[1:])]),
)


def deliveries(data: bytes) -> None:
    """The deliveries of a message of the bus, on their way to sessions."""
    readers = Readers()
    for name in ("g-0", "g-1"):
        position = _Reader()
        readers.enter(name, position)
        position.expected, position.head, position.sent, position.next, position.way = 1, 0, 0, 1, _WAY
    for _ in pass_all([msgspec.Raw(data)], {"inbox/normal": readers}, bus.decode_deliveries, 4):
        pass


_DELIVERIES: Final = Target("deliveries", deliveries, DELIVERIES, (msgspec.DecodeError,), None, 3)
_BUS: Final = Target("message", message, MESSAGES, (msgspec.DecodeError,), None, 3)
TARGETS: Final = {
    target.name: target for target in (*producers.TARGETS, *tokens.TARGETS, *clients.TARGETS, _BUS, _DELIVERIES)
}
