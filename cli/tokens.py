"""`tocsin token`: makes tokens, which say who a client is and for how long that may be believed."""

import secrets
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
    now = time.time()
    # `iat` and `jti` are what a revocation goes by. To the ms, so that a token made right after one is good; never
    # rounded up, so that one made right before it is not.
    claims: dict[str, str | float] = {
        "sub": user,
        "iat": int(now * 1000) / 1000,
        "exp": int(now) + max(1, round(ttl)),
        "jti": secrets.token_hex(8),
    }
    if device:
        claims["device"] = device
    return jwt.encode(claims, secret, algorithm="HS256")
