"""Where the request that opens a WebSocket may carry a token. Pure.

A browser's page cannot set headers, so it uses the query, a subprotocol, or its first frame (`hello`).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from schemas.errors import BadToken

SUBPROTOCOL: Final = "tocsin"  # the only one that is ever answered
CARRIER: Final = "tocsin.token."  # what stands before a token that is offered as a subprotocol
DIFFER: Final = "several tokens were given, and they differ"


def offered(header: str | None) -> list[str]:
    """Return the subprotocols that a client offers, from `Sec-WebSocket-Protocol`."""
    return [one.strip() for one in header.split(",") if one.strip()] if header else []


def token_in(query: Mapping[str, Sequence[str]], authorization: str | None, protocols: Sequence[str]) -> str | None:
    """Return the token of a request, None if it has none.

    Raises `BadToken` if it has several that differ. An `Authorization` of another scheme than `Bearer` is somebody
    else's business, such as a proxy's.
    """
    said = query.get("token", ())
    if authorization is None and not protocols and len(said) < 2:  # as mostly
        return said[0] if said else None
    found = set(said)
    scheme, _, rest = (authorization or "").strip().partition(" ")
    if scheme.lower() == "bearer":
        found.add(rest.strip())
    found.update(one.removeprefix(CARRIER) for one in protocols if one.startswith(CARRIER))
    found.discard("")
    if len(found) > 1:
        raise BadToken(DIFFER)
    return found.pop() if found else None
