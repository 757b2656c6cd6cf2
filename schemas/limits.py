"""How large what strangers write may be, and how large that makes what we write. Sizes are bytes, unpacked.

A record over a limit becomes a dead letter, cut so that it fits; its header `tocsin-truncated` says what was cut.
"""

from typing import Final

import msgspec

from schemas.logs import LANES

MAX_VALUE: Final = 64 * 1024  # of a notification's value
MAX_CONTROL_VALUE: Final = 1024 * 1024  # of a value that gateways write, which packs many sessions
MAX_OWN_VALUE: Final = 2 * 1024 * 1024  # of a value that only we write: states of tables, the journal
MAX_USER: Final = 256  # characters of a user's id
MAX_ID: Final = 256  # characters of a notification's id, also in the header `tocsin-id`
MAX_KEY: Final = 4 * MAX_USER  # of a record's key, which is a user's id
MAX_HEADERS: Final = 64  # of a record, `tocsin-id` aside
MAX_HEADER_BYTES: Final = 16 * 1024  # of the names and values of a record's headers, `tocsin-id` aside

KEPT_VALUE: Final = 128 * 1024  # of a value in a dead letter; what is a little too large stays whole
CONTROL_PACK: Final = 512 * 1024  # of a record in which a gateway packs many sessions, at which it begins another
FRAME_ROOM: Final = 4 * 1024  # by which the frame of an entry may be larger than the value of its record
HEAD_ROOM: Final = 8 * 1024  # for what comes with a record's own key, value and headers: of its batch, and our headers

POSITION_HEADER: Final = "tocsin-id"  # on a record that was sent on to its home partition: the id it had where it lay
TRUNCATED_HEADER: Final = "tocsin-truncated"  # on a dead letter: what of the record it does not have whole


class RecordLimits(msgspec.Struct, frozen=True):
    """What a record of a topic may have at most; of a larger value the first `kept` bytes are handed on."""

    value: int
    kept: int
    key: int = MAX_KEY
    headers: int = MAX_HEADERS
    header_bytes: int = MAX_HEADER_BYTES
    apart: str = POSITION_HEADER  # one header of this name is not counted
    apart_bytes: int = 4 * MAX_ID  # of its value


_FROM_PRODUCERS: Final = RecordLimits(value=KEPT_VALUE, kept=KEPT_VALUE)  # over `MAX_VALUE` it is refused when decoded
_FROM_GATEWAYS: Final = RecordLimits(value=MAX_CONTROL_VALUE, kept=KEPT_VALUE)
_OURS: Final = RecordLimits(
    value=MAX_OWN_VALUE, kept=KEPT_VALUE, key=MAX_OWN_VALUE, headers=1_000, header_bytes=MAX_OWN_VALUE
)
_PRODUCED: Final = tuple(f"notifications.{lane}" for lane in LANES)
_GATEWAYS: Final = ("connections", "acks")


def record_limits(topic: str) -> RecordLimits:
    """Return what a record of a topic, named with its prefix, may have at most."""
    if topic.endswith(_PRODUCED):
        return _FROM_PRODUCERS
    return _FROM_GATEWAYS if topic.endswith(_GATEWAYS) else _OURS


def largest_message(topic: str) -> int:
    """Return the bytes of the largest batch of one record that is written to a topic, named with its prefix.

    What Kafka takes of the topic at the least (`max.message.bytes`) has to be as much.
    """
    if topic.endswith(_GATEWAYS):
        return CONTROL_PACK + MAX_KEY + HEAD_ROOM
    value = MAX_VALUE if topic.endswith(_PRODUCED) else KEPT_VALUE
    return value + MAX_KEY + MAX_HEADER_BYTES + HEAD_ROOM
