"""How a store keeps where the logs of a device began: msgpack, {log: seq}."""

from typing import Final

import msgspec

_decoder: Final = msgspec.msgpack.Decoder(dict[str, int])
packed_starts: Final = msgspec.msgpack.Encoder().encode


def unpacked_starts(value: bytes | None) -> dict[str, int]:
    """Return where logs began; nothing where nothing was kept, or nothing that can be read."""
    try:
        return _decoder.decode(value) if value else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
