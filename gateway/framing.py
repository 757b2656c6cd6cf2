"""Frames out: text messages as the bytes of WebSocket frames, built once however many sessions they are for."""

from typing import Final

PING: Final = b"\x89\x00"


def framed(payload: bytes) -> bytes:
    """Return a text message as the bytes of one unmasked frame."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def joined(payloads: list[bytes]) -> bytes:
    """Return text messages as the bytes of their frames, to be written at once."""
    return b"".join(map(framed, payloads)) if len(payloads) > 1 else framed(payloads[0])
