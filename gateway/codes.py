"""Close codes: the one table. 4000 to 4099 say “connect again”, 4100 to 4199 say “do not, something is wrong”."""

from typing import Final

RESTART: Final = 4000  # the server lost what it knew of the session, or failed in it; connect again
DRAIN: Final = 4001  # the gateway is stopping; connect again after the time that `reconnect` named
SLOW: Final = 4002  # the client reads too slowly; connect again, the log has all it missed
SILENT: Final = 4003  # no sign of life; connect again
EXPIRED: Final = 4005  # the token has expired; connect again with a new one
RATE: Final = 4006  # too many frames; connect again after a delay
TOO_MANY: Final = 4007  # too many sessions of a user or an address; connect again when one of them has ended

BAD_TOKEN: Final = 4101  # the token was refused after the handshake
REVOKED: Final = 4103  # the session was ended by an operator
PROTOCOL: Final = 4104  # the client contradicts the protocol or its own token, or its `hello` was refused
TOO_LARGE: Final = 4105  # a message over the limit

REASONS: Final = {
    RESTART: "restart",
    DRAIN: "drain",
    SLOW: "slow consumer",
    SILENT: "no sign of life",
    EXPIRED: "token expired",
    RATE: "rate exceeded",
    TOO_MANY: "too many sessions",
    BAD_TOKEN: "bad token",
    REVOKED: "revoked",
    PROTOCOL: "protocol error",
    TOO_LARGE: "message too large",
}


_STANDARD: Final = frozenset(range(1000, 1016))


def label_of(code: int) -> str:
    """Return what a code is counted under: itself, or `other` for one that a client has made up."""
    return str(code) if code in REASONS or code in _STANDARD else "other"


def reconnects(code: int) -> bool:
    """Tell whether a client that was closed with `code` should connect again."""
    return not 4100 <= code <= 4199
