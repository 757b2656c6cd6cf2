"""`tocsin token`: makes tokens, which say who a client is and for how long that may be believed."""

import time
from typing import Final

import jwt

from schemas.errors import SettingsError

DEFAULT_TTL: Final = 600  # s


def make_token(secret: str, user: str, *, device: str | None = None, ttl: float = DEFAULT_TTL) -> str:
    """Return an HS256 token for a user (and one of their devices) that expires `ttl` seconds from now.

    Raises `SettingsError` for an empty user.
    """
    if not user:
        raise SettingsError("a token needs a user")
    now = int(time.time())
    claims: dict[str, str | int] = {"sub": user, "iat": now, "exp": now + max(1, round(ttl))}
    if device:
        claims["device"] = device
    return jwt.encode(claims, secret, algorithm="HS256")
