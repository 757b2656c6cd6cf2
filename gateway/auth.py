"""Who may connect: tokens (JWT by RFC 8725) and browser origins. A token never reaches a log or an error's text."""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Final
from urllib.parse import urlsplit

import jwt
import msgspec

from schemas.errors import BadToken
from schemas.records import DeviceId, UserId

ALGORITHMS: Final = ["HS256"]  # by allow-list: what the token's own header asks for does not count
LEEWAY: Final = 5.0  # s that clocks may differ
MAX_TOKEN: Final = 4096  # bytes


class Claims(msgspec.Struct, frozen=True):
    """What a good token says; `ttl` is how long it is still good, in seconds, leeway included."""

    user: str
    device: str | None
    ttl: float


class _Payload(msgspec.Struct):
    sub: UserId
    exp: Annotated[float, msgspec.Meta(gt=0, lt=1e11)]
    device: DeviceId | None = None


class Verifier:
    """Checks tokens against one HS256 key; `clock` gives seconds since 1970."""

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def check(self, token: str) -> Claims:
        """Return what the token says. Raises `BadToken`, whose text says why and shows nothing of the token."""
        if not token:
            raise BadToken("the token is missing")
        if len(token) > MAX_TOKEN:
            raise BadToken("the token is too long")
        try:
            # expiry is checked below, by our own clock; the library would use another and round it
            raw = jwt.decode(token, self._secret, ALGORITHMS, options={"require": ["exp", "sub"], "verify_exp": False})
            payload = msgspec.convert(raw, _Payload)
        except jwt.MissingRequiredClaimError as exc:
            raise BadToken(f"the token lacks the claim `{exc.claim}`") from None
        except jwt.ImmatureSignatureError:
            raise BadToken("the token is not valid yet") from None
        except jwt.InvalidAlgorithmError:
            raise BadToken("the token is signed by another algorithm than HS256") from None
        except jwt.InvalidSignatureError:
            raise BadToken("the token's signature is wrong") from None
        except (jwt.InvalidTokenError, UnicodeError, RecursionError):
            raise BadToken("the token is malformed") from None
        except msgspec.ValidationError:
            raise BadToken("a claim of the token has the wrong type or size") from None
        ttl = payload.exp + LEEWAY - self._clock()
        if ttl <= 0:
            raise BadToken("the token has expired")
        return Claims(payload.sub, payload.device, ttl)


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
        return bool(host) and urlsplit(origin).netloc.lower() == (host or "").lower()


def query_value(query: Mapping[str, list[str]], name: str) -> str:
    """Return the one value of a query parameter, empty if it is missing or was given twice."""
    values = query.get(name, [])
    return values[0] if len(values) == 1 else ""
