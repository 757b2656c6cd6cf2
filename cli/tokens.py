"""`tocsin token`: makes tokens, which say who a client is and for how long that may be believed."""

import secrets
import time
from collections.abc import Mapping
from typing import Final

import jwt

from cli.running import secret_of
from gateway.keys import given_keys
from schemas.errors import SettingsError
from streams.settings import Settings

DEFAULT_TTL: Final = 600  # s


def make_token(
    secret: str | bytes,
    user: str,
    *,
    device: str | None = None,
    ttl: float = DEFAULT_TTL,
    kid: str = "",
    more: Mapping[str, str] | None = None,
) -> str:
    """Return an HS256 token for a user (and one of their devices) that expires `ttl` seconds from now.

    `kid` names its key, `more` are further claims. Raises `SettingsError` for an empty user.
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
        **(more or {}),
    }
    if device:
        claims["device"] = device
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": kid} if kid else None)


def parties(settings: Settings) -> dict[str, str]:
    """Return the claims `aud` and `iss` that the settings demand: the first of each."""
    wanted = {"aud": settings.listed("audience"), "iss": settings.listed("issuer")}
    return {name: values[0] for name, values in wanted.items() if values}


def token_by_settings(
    settings: Settings, user: str, *, device: str | None = None, ttl: float = DEFAULT_TTL, kid: str | None = None
) -> str:
    """Return a token that a gateway with these settings takes, signed with the secret, or the one that `kid` names.

    Raises `SettingsError` if there is no such secret or the token would live too long.
    """
    if ttl > settings.token_life:
        raise SettingsError(
            f"no gateway takes a token that lives longer than TOCSIN_TOKEN_LIFE={settings.token_life:g}"
        )
    if kid is None:
        return make_token(secret_of(settings), user, device=device, ttl=ttl, more=parties(settings))
    for key in given_keys(settings.secret or "", settings.listed("keys")):
        if key.algorithm == "HS256" and key.kid == kid:
            return make_token(key.material, user, device=device, ttl=ttl, kid=kid, more=parties(settings))
    raise SettingsError(f"no file of TOCSIN_KEYS has a secret that is named {kid}")
