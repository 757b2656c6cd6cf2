"""The request that opens a WebSocket, as clients mostly write it: read in one go, answered by bytes. Sans-I/O.

To read a plain request here costs a tenth of what the library takes. `plain` only knows requests that the library would
accept as well; all others, good and bad, are looked at more closely (`gateway.entrance`).
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha1
from typing import Final

import msgspec

from gateway import credentials

SUBPROTOCOL: Final = credentials.SUBPROTOCOL.encode()
LONGEST: Final = 8_000  # bytes of a head: below each limit that the library has for a line
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# each line can be read in one way only, so that no request makes the expression look twice
_HEAD: Final = re.compile(rb'GET (/[!"$-~]*) HTTP/1\.1\r\n((?:' + _TOKEN + rb":[\t -~]*\r\n){1,100})\r\n")
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
_EXTENSION: Final = rb"[a-z0-9-]+(?:; ?[a-z0-9_]+(?:=[0-9]+)?)*"
_EXTENSIONS: Final = re.compile(_EXTENSION + rb"(?:, ?" + _EXTENSION + rb")*")
_PROTOCOLS: Final = re.compile(_TOKEN + rb"(?:, ?" + _TOKEN + rb")*")
_CONNECTIONS: Final = (b"upgrade", b"keep-alive, upgrade")
_HOST: Final = re.compile(rb"[A-Za-z0-9.:\[\]_-]+")
_UNKNOWN: Final = frozenset((b"content-length", b"transfer-encoding"))
_PASSED_ON: Final = (
    ("Host", b"host"), ("Origin", b"origin"), ("Authorization", b"authorization"),
    ("Sec-WebSocket-Protocol", b"sec-websocket-protocol"), ("X-Forwarded-For", b"x-forwarded-for"),
)  # fmt: skip
_WANTED: Final = frozenset(
    (
        b"authorization", b"connection", b"host", b"origin", b"sec-websocket-extensions", b"sec-websocket-key",
        b"sec-websocket-protocol", b"sec-websocket-version", b"upgrade", b"x-forwarded-for",
    )
)  # fmt: skip


class PlainRequest(msgspec.Struct, frozen=True):
    """A request for `path` (query included), the headers that are asked for, and the answer that accepts it."""

    path: str
    headers: Mapping[str, str]
    answer: bytes


def plain(head: bytes) -> PlainRequest | None:
    """Read a request's head with the empty line at its end; None: it is nothing plain, ask the library."""
    match = _HEAD.fullmatch(head) if len(head) <= LONGEST else None
    if match is None:
        return None
    said: dict[bytes, bytes] = {}
    for line in match[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _WANTED:
            if name in said:
                return None
            said[name] = value.strip(b" \t")
        elif name in _UNKNOWN:
            return None
    key = said.get(b"sec-websocket-key", b"")
    if (
        said.get(b"upgrade", b"").lower() != b"websocket"
        or said.get(b"connection", b"").lower() not in _CONNECTIONS
        or said.get(b"sec-websocket-version") != b"13"
        or not _KEY.fullmatch(key)
        or not _HOST.fullmatch(said.get(b"host", b""))
        or not _EXTENSIONS.fullmatch(said.get(b"sec-websocket-extensions", b"none"))
    ):
        return None
    protocols = said.get(b"sec-websocket-protocol")
    if protocols is not None and not _PROTOCOLS.fullmatch(protocols):
        return None
    headers = {name: said[low].decode() for name, low in _PASSED_ON if low in said}
    return PlainRequest(match[1].decode(), headers, _accepting(key, protocols))


def _accepting(key: bytes, protocols: bytes | None) -> bytes:
    proof = b64encode(sha1(key + _MAGIC, usedforsecurity=False).digest())
    chosen = b""
    if protocols is not None and SUBPROTOCOL in [one.strip() for one in protocols.split(b",")]:
        chosen = b"\r\nSec-WebSocket-Protocol: " + SUBPROTOCOL  # never the one that carries a token
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + proof + chosen + b"\r\n\r\n"
    )
