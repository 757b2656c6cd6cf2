"""Who may connect: tokens (JWT by RFC 8725) and browser origins. A token never reaches a log or an error's text."""

import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Annotated, Final
from urllib.parse import urlsplit

import jwt
import msgspec
from jwt.types import Options

from schemas.errors import BadToken
from schemas.records import DeviceId, UserId

ALGORITHMS: Final = ["HS256"]  # by allow-list: what the token's own header asks for does not count
LEEWAY: Final = 5.0  # s that clocks may differ
MAX_TOKEN: Final = 4096  # bytes
# times are checked by our own clock and with leeway; the library would use another, and round
_CHECKS: Final[Options] = {"require": ["exp", "sub"], "verify_exp": False, "verify_iat": False, "verify_nbf": False}


class Claims(msgspec.Struct, frozen=True):
    """What a good token says; `ttl` is how long it is still good, in seconds, leeway included.

    `issued` is when it was made, s since 1970, 0 where it does not say. `token` is its `jti`, else `token_name` of it.
    """

    user: str
    device: str | None
    ttl: float
    issued: float = 0.0
    token: str = ""


class _Payload(msgspec.Struct):
    sub: UserId
    exp: Annotated[float, msgspec.Meta(gt=0, lt=1e11)]
    device: DeviceId | None = None
    iat: Annotated[float, msgspec.Meta(ge=0, lt=1e11)] = 0.0
    nbf: Annotated[float, msgspec.Meta(ge=0, lt=1e11)] = 0.0
    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None


def token_name(token: str) -> str:
    """Return what a token without `jti` is called: a hash of what its signature signs.

    The signature itself is left out, for several texts of it mean the same.
    """
    return sha256(token.rpartition(".")[0].encode()).hexdigest()[:32]


class Verifier:
    """Checks tokens against one HS256 key; `clock` gives s since 1970, `refuses` tells which were revoked."""

    def __init__(
        self,
        secret: str,
        clock: Callable[[], float] = time.time,
        *,
        refuses: Callable[[Claims], bool] = lambda _: False,
    ) -> None:
        self._secret = secret
        self._clock = clock
        self._refuses = refuses

    def check(self, token: str) -> Claims:
        """Return what the token says. Raises `BadToken`, whose text says why and shows nothing of the token."""
        if not token:
            raise BadToken("the token is missing")
        if len(token) > MAX_TOKEN:
            raise BadToken("the token is too long")
        try:
            raw = jwt.decode(token, self._secret, ALGORITHMS, options=_CHECKS)
            payload = msgspec.convert(raw, _Payload)
        except jwt.MissingRequiredClaimError as exc:
            raise BadToken(f"the token lacks the claim `{exc.claim}`") from None
        except jwt.InvalidAlgorithmError:
            raise BadToken("the token is signed by another algorithm than HS256") from None
        except jwt.InvalidSignatureError:
            raise BadToken("the token's signature is wrong") from None
        except (jwt.InvalidTokenError, UnicodeError, RecursionError):
            raise BadToken("the token is malformed") from None
        except msgspec.ValidationError:
            raise BadToken("a claim of the token has the wrong type or size") from None
        now = self._clock()
        if max(payload.nbf, payload.iat) > now + LEEWAY:  # what is issued in the future would outlive a revocation
            raise BadToken("the token is not valid yet")
        ttl = payload.exp + LEEWAY - now
        if ttl <= 0:
            raise BadToken("the token has expired")
        return self._in_force(Claims(payload.sub, payload.device, ttl, payload.iat, payload.jti or token_name(token)))

    def _in_force(self, claims: Claims) -> Claims:
        if self._refuses(claims):
            raise BadToken("the token was revoked")
        return claims


class Origins:
    """Which web pages may connect.

    `setting` lists origins by commas; empty: only pages from the host that they connect to; `*`: all. What is no
    browser sends no origin and is let in: it has the token, and no user's cookies to misuse.
    """

    def __init__(self, setting: str) -> None:
        self._allowed = frozenset(origin.strip().rstrip("/").lower() for origin in setting.split(",") if origin.strip())

    def allow(self, origin: str | None, host: str | None) -> bool:
        """Tell whether a page of `origin` may connect to `host` (the header, with port where it has one)."""
        if origin is None or "*" in self._allowed:
            return True
        if self._allowed:
            return origin.lower() in self._allowed
        try:
            page = urlsplit(origin).netloc
        except ValueError:  # such as http://[
            return False
        return bool(host) and page.lower() == (host or "").lower()


def query_value(query: Mapping[str, list[str]], name: str) -> str:
    """Return the one value of a query parameter, empty if it is missing or was given twice."""
    values = query.get(name, [])
    return values[0] if len(values) == 1 else ""
