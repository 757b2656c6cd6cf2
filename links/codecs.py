"""Unpacking what Kafka's five codecs packed, never more than `MOST` bytes: 20 KB of some unpack to gigabytes.

The functions take the place of aiokafka's own, which know no bound. Whatever they raise means that the batch is not
read, so they raise one error with a reason.
"""

import gzip
import io
import mmap
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import cramjam

MOST: Final = 64 * 1024 * 1024  # bytes of one batch, unpacked
FIRST_TRY: Final = 64 * 1024  # bytes; what is larger than this and `EXPECTED` times its packed size is unpacked twice
EXPECTED: Final = 8
XERIAL: Final = b"\x82SNAPPY\x00"  # how Java, kcat and others begin snappy; two versions of 4 bytes follow, then blocks
XERIAL_HEAD: Final = 16


class CannotUnpack(Exception):
    """The records of a batch cannot be read."""


class TooLarge(CannotUnpack):
    """What is packed has more bytes than are taken."""

    def __init__(self) -> None:
        super().__init__(f"unpacked it has more than {MOST} bytes")


def gunzip(packed: Any) -> bytes:
    """Unpack gzip, of one member or more."""
    try:
        file = gzip.GzipFile(fileobj=io.BytesIO(packed))
        found = file.read(FIRST_TRY)
        if len(found) == FIRST_TRY:  # a read takes memory for all that it may bring
            found += file.read(MOST + 1 - FIRST_TRY)
    except (OSError, EOFError, zlib.error) as exc:
        raise CannotUnpack(f"it is no gzip: {exc}") from None
    if len(found) > MOST:
        raise TooLarge
    return found


def unsnap(packed: Any) -> bytes:
    """Unpack snappy, raw or in the blocks of the Java library."""
    data = memoryview(packed)
    if bytes(data[: len(XERIAL)]) != XERIAL:
        return _unsnapped([data])
    blocks: list[memoryview] = []
    at = XERIAL_HEAD
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4 + size
        if at > len(data) or not size:
            raise CannotUnpack("it is no snappy: a block is cut short")
        blocks.append(data[at - size : at])
    return _unsnapped(blocks)


def _unsnapped(blocks: list[memoryview]) -> bytes:
    try:
        if sum(cramjam.snappy.decompress_raw_len(bytes(block[:5])) for block in blocks) > MOST:
            raise TooLarge
        return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)
    except cramjam.DecompressionError as exc:
        raise CannotUnpack(f"it is no snappy: {exc}") from None


def unlz4(packed: Any) -> bytes:
    """Unpack lz4 frames."""
    return _into("lz4", cramjam.lz4.decompress_into, packed)


def unzstd(packed: Any) -> bytes:
    """Unpack zstd frames."""
    return _into("zstd", cramjam.zstd.decompress_into, packed)


def _into(name: str, unpack: Callable[[Any, Any], int], packed: Any) -> bytes:
    """Unpack into a buffer that is mostly large enough, else into one of the greatest size; its pages come with use."""
    guess = max(FIRST_TRY, EXPECTED * len(packed))
    if guess < MOST:
        small = bytearray(guess)
        try:
            return bytes(memoryview(small)[: unpack(packed, small)])
        except (cramjam.DecompressionError, OSError):  # too small, or broken: the great one tells
            pass
    with mmap.mmap(-1, MOST) as great:
        try:
            return great[: unpack(packed, great)]
        except (cramjam.DecompressionError, OSError) as exc:
            if "whole buffer" in str(exc):
                raise TooLarge from None
            raise CannotUnpack(f"it is no {name}: {exc}") from None


UNPACK: Final[Mapping[int, Callable[[Any], bytes]]] = {1: gunzip, 2: unsnap, 3: unlz4, 4: unzstd}  # by Kafka's number


def unpacked(codec: int, packed: Any) -> bytes:
    """Unpack by the number that Kafka gives a codec; 0 is none. Raises `CannotUnpack`."""
    if not codec:
        return bytes(packed)
    if codec not in UNPACK:
        raise CannotUnpack(f"no codec has the number {codec}")
    return UNPACK[codec](packed)
