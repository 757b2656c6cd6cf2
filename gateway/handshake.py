"""Who may begin: what the gateway answers to the request that opens a WebSocket. Pure.

Whose token it is comes after that: a browser learns why a WebSocket ends, but not why a handshake was refused.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qs

import msgspec

from gateway.credentials import CARRIER, SUBPROTOCOL, offered, token_in
from gateway.faults import Refusal, retry_after
from gateway.origins import Origins
from schemas.errors import BadToken

PATH: Final = "/ws"
RETRY: Final = 5  # s until a gateway that takes no session is worth another try
_ABSOLUTE: Final = ("http://", "https://")
_MALFORMED: Final = Refusal(HTTPStatus.BAD_REQUEST, "the request is malformed\n")


class Admission(msgspec.Struct, frozen=True):
    """The request may become a WebSocket.

    `token` is what it brought. None: `hello` has to bring it. `hello`: the client will say what it has. `refused`: the
    tokens contradict each other.
    """

    token: str | None
    hello: bool = False
    refused: BadToken | None = None


class Doors(Protocol):
    """What the handshake asks about the gateway."""

    def closed(self) -> str | None:
        """Return why no session is taken now, None if they are."""


class Handshake:
    """Judges requests."""

    def __init__(self, origins: Origins, doors: Doors) -> None:
        self._origins = origins
        self._doors = doors

    def judge(self, target: str, headers: Mapping[str, str]) -> Admission | Refusal:
        """Return whether a request for `target` (path and query, or a whole URL) is let in.

        `headers` may be asked for `Origin`, `Host`, `Authorization` and `Sec-WebSocket-Protocol`; a header that came
        twice raises `KeyError` or `LookupError`.
        """
        try:
            place, path, asked = _split(target)
            query = parse_qs(asked, max_num_fields=16)
            origin, host = headers.get("Origin"), place or headers.get("Host")
            authorization, protocols = headers.get("Authorization"), offered(headers.get("Sec-WebSocket-Protocol"))
        except (ValueError, LookupError):
            return _MALFORMED
        if refusal := self._turned_away(path, origin, host):
            return refusal
        if protocols and SUBPROTOCOL not in protocols and any(one.startswith(CARRIER) for one in protocols):
            text = f"offer the subprotocol `{SUBPROTOCOL}` beside the one with the token\n"
            return Refusal(HTTPStatus.BAD_REQUEST, text)
        hello = query.get("hello") == ["1"]
        try:
            token = token_in(query, authorization, protocols)
        except BadToken as exc:
            return Admission("", hello, exc)
        return Admission(token if token or hello else "", hello)

    def _turned_away(self, path: str, origin: str | None, host: str | None) -> Refusal | None:
        if path != PATH:
            return Refusal(HTTPStatus.NOT_FOUND, f"the socket is at {PATH}\n")
        if reason := self._doors.closed():
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n", retry_after(RETRY))
        if origin is not None and not self._origins.allow(origin, host):
            self._origins.note_refused(origin)
            return Refusal(HTTPStatus.FORBIDDEN, "pages of this origin may not connect (TOCSIN_ORIGINS)\n")
        return None


def _split(target: str) -> tuple[str, str, str]:
    """Return host (empty where only the header has it), path and query. Raises `ValueError`."""
    place = ""
    if target.lower().startswith(_ABSOLUTE):
        place, slash, rest = target.partition("://")[2].partition("/")
        if "?" in place or "@" in place or not place:
            raise ValueError(target)
        target = slash + rest
    path, _, query = target.partition("?")
    return place, path, query
