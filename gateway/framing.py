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


class _Last:
    """The frame that was built last: an entry for many sessions is framed once."""

    __slots__ = ("frame", "payload")

    def __init__(self) -> None:
        self.payload = b""
        self.frame = framed(b"")

    def of(self, payload: bytes) -> bytes:
        if payload is not self.payload:
            self.payload, self.frame = payload, framed(payload)
        return self.frame


_last = _Last()


def joined(payloads: list[bytes]) -> bytes:
    """Return text messages (at least one) as the bytes of their frames, to be written at once."""
    if len(payloads) == 1:
        return _last.of(payloads[0])
    return b"".join(map(framed, payloads))
