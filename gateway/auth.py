"""Who may connect: tokens (JWT by RFC 8725) and browser origins. A token never reaches a log or an error's text.

The library judges tokens. One whose header (its first part, as text) is the same as that of a token that the library
has let pass differs from it in signature and claims alone; these two are checked here, at a tenth of the cost, and if
anything about them is not as it should be, the library says so.
"""

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import jwt
import msgspec
from jwt.types import Options

from schemas.errors import BadToken
from schemas.records import DeviceId, UserId
from schemas.text import is_encodable

ALGORITHMS: Final = ["HS256"]  # by allow-list: what the token's own header asks for does not count
LEEWAY: Final = 5.0  # s that clocks may differ
MAX_TOKEN: Final = 4096  # bytes
MAX_HEADERS: Final = 64  # texts of headers that are remembered
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
    aud: Any = None  # whom else it is for; the library knows what to do with it


_payload: Final = msgspec.json.Decoder(_Payload)


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
        self._key = secret.encode()
        self._headers: set[str] = set()  # of tokens that the library has let pass

    def check(self, token: str) -> Claims:
        """Return what the token says. Raises `BadToken`, whose text says why and shows nothing of the token."""
        if not token:
            raise BadToken("the token is missing")
        if len(token) > MAX_TOKEN:
            raise BadToken("the token is too long")
        payload = self._quickly(token) or self._by_library(token)
        now = self._clock()
        if max(payload.nbf, payload.iat) > now + LEEWAY:  # what is issued in the future would outlive a revocation
            raise BadToken("the token is not valid yet")
        ttl = payload.exp + LEEWAY - now
        if ttl <= 0:
            raise BadToken("the token has expired")
        return self._in_force(Claims(payload.sub, payload.device, ttl, payload.iat, payload.jti or token_name(token)))

    def _quickly(self, token: str) -> _Payload | None:
        """Return the claims of a good token with a known header; None: the library has to look at it."""
        signed, _, signature = token.rpartition(".")
        header, _, claims = signed.partition(".")
        if header not in self._headers:
            return None
        try:
            right = urlsafe_b64encode(hmac.digest(self._key, signed.encode(), "sha256")).rstrip(b"=")
            if not hmac.compare_digest(right, signature.encode()):
                return None
            payload = _payload.decode(urlsafe_b64decode(claims + "=="))
        except ValueError:  # a text that cannot be encoded, base64, or JSON that is not what it should be
            return None
        return None if payload.aud else payload

    def _by_library(self, token: str) -> _Payload:
        try:
            raw = jwt.decode(token, self._secret, ALGORITHMS, options=_CHECKS)
            payload = msgspec.convert(raw, _Payload)
            if not is_encodable(payload.sub, payload.device, payload.jti):  # the library reads JSON with Python's own
                raise BadToken("a claim of the token is not text")
            if len(self._headers) < MAX_HEADERS:
                self._headers.add(token.partition(".")[0])
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
        return payload

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
