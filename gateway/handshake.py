"""Who is let in: what the gateway answers to the request that opens a WebSocket. Pure but for the clock of tokens."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qs

import msgspec

from gateway.auth import Claims, Origins, Verifier, query_value
from schemas.errors import BadToken

PATH: Final = "/ws"
RETRY: Final = 5  # s until a gateway that takes no session is worth another try


class Refusal(msgspec.Struct, frozen=True):
    """The HTTP answer to a request that is not let in; `retry_after`: in how many s it may be, 0 if nobody knows."""

    status: HTTPStatus
    text: str
    retry_after: int = 0


class Admission(msgspec.Struct, frozen=True):
    """The request may become a session; `hello`: the client will say what it has."""

    claims: Claims
    hello: bool


class Doors(Protocol):
    """What the handshake asks about the gateway."""

    def closed(self) -> str | None:
        """Return why no session is taken now, None if they are."""


class Handshake:
    """Judges requests."""

    def __init__(self, verifier: Verifier, origins: Origins, doors: Doors) -> None:
        self._verifier = verifier
        self._origins = origins
        self._doors = doors

    def judge(self, target: str, headers: Mapping[str, str]) -> Admission | Refusal:
        """Return whether a request for `target` (path and query) is let in.

        `headers` may be asked for `Origin` and `Host`; a header that came twice raises `KeyError` or `LookupError`.
        """
        path, _, asked = target.partition("?")
        try:
            query = parse_qs(asked, max_num_fields=16)
            origin, host = headers.get("Origin"), headers.get("Host")
        except (ValueError, LookupError):
            return Refusal(HTTPStatus.BAD_REQUEST, "the request is malformed\n")
        if path != PATH:
            return Refusal(HTTPStatus.NOT_FOUND, f"the socket is at {PATH}\n")
        if reason := self._doors.closed():
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n", RETRY)
        if not self._origins.allow(origin, host):
            return Refusal(HTTPStatus.FORBIDDEN, "this origin may not connect\n")
        try:
            claims = self._verifier.check(query_value(query, "token"))
        except BadToken as exc:
            return Refusal(HTTPStatus.UNAUTHORIZED, f"{exc}\n")
        return Admission(claims, query_value(query, "hello") == "1")
