"""What stands on the wire, for tests that look at what a gateway writes."""

import msgspec

from gateway.passing import Position, Readers, pass_all
from schemas import bus
from schemas.bus import Delivery, Run


def unframed(data: bytes) -> bytes:
    """Return the JSON object of a frame that a gateway has written."""
    return data[data.index(b"{") :]


def passes_on(entry: Run, position: Position) -> bool:
    """Deliver an entry to a session that stands there; return whether it was written at once."""
    readers = Readers()
    readers.enter("s", position)
    packed = bus.encode([Delivery("u", ["s"], [entry])])
    return not [
        others
        for others, _ in pass_all([msgspec.Raw(packed)], {entry.log: readers}, bus.decode_deliveries, 1)
        if others
    ]
