"""Identities made from a position in Kafka: opaque, time-ordered, made without coordination."""

from functools import lru_cache
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, the one of ULID
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)

TOPIC_BITS: Final = 6
PARTITION_BITS: Final = 10
OFFSET_BITS: Final = 44
MAX_TOPIC_NUMBER: Final = (1 << TOPIC_BITS) - 1
MAX_PARTITIONS: Final = 1 << PARTITION_BITS


def position_id(ts_ms: int, topic_number: int, partition: int, offset: int) -> str:
    """Return the id of the record at a position, in ULID's layout (26 characters).

    48 bits of append time (ms since 1970), 16 bits of topic (6) and partition (10), 64 bits of offset: ids of one
    partition sort by time, and two records never share one, whatever their timestamps.
    """
    place = (topic_number & MAX_TOPIC_NUMBER) << PARTITION_BITS | partition & (MAX_PARTITIONS - 1)
    before, last = divmod(place << 64 | offset, 1 << 20)
    return _letters(ts_ms & (1 << 48) - 1, 5) + _letters(before, 6) + _PAIRS[last >> 10] + _PAIRS[last & 1023]


@lru_cache(4096)  # ids of one millisecond, and a million of one partition, begin alike
def _letters(value: int, pairs: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(10 * (pairs - 1), -1, -10)])


def position_parts(text: str) -> tuple[int, int, int, int]:
    """Return (append time in ms, topic number, partition, offset) of an id made from a position.

    Raises `ValueError` for any other text.
    """
    value = 0
    for letter in text:
        value = value << 5 | _ALPHABET.index(letter)
    ts_ms, place, offset = value >> 80, value >> 64 & 0xFFFF, value & (1 << 64) - 1
    number, partition = place >> PARTITION_BITS, place & (MAX_PARTITIONS - 1)
    if len(text) != 26 or value >> 128 or not number or offset >> OFFSET_BITS:
        raise ValueError(text)
    return ts_ms, number, partition, offset


def source(incarnation: int, offset: int) -> int:
    """Pack a source position into one integer that grows along the life of a topic.

    `incarnation` counts how often the topic has been made (from 1, at most 2**19 - 1), so offset 0 of a topic that was
    made again lies after everything of the one before.
    """
    return incarnation << OFFSET_BITS | offset


def source_parts(src: int) -> tuple[int, int]:
    """Return (incarnation, offset) of a packed source position."""
    return src >> OFFSET_BITS, src & (1 << OFFSET_BITS) - 1
