"""Whose a token is (JWT by RFC 8725). A token never reaches a log or an error's text.

The library reads headers and judges signatures. A token whose header, as text, is that of one which the library has
let pass differs from it in signature and claims alone. The key checks these directly, at a fraction of the cost; if
anything is not as it should be, the library says what. Both ways have the same rules for claims (`gateway.claims`).
"""

import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.claims import LEEWAY, Payload, Rules, decode, time_left
from gateway.keys import ALGORITHMS, Key, Keyring
from schemas.errors import BadToken, RevokedToken, UnknownKey

__all__ = ["LEEWAY", "Claims", "Verifier", "token_name"]

MAX_TOKEN: Final = 4096  # characters
MAX_HEADERS: Final = 64  # texts of headers that are remembered
_jws: Final = jwt.PyJWS(algorithms=ALGORITHMS)


class Claims(msgspec.Struct, frozen=True):
    """What a good token says; `ttl` is how long it is still good, in seconds, leeway included.

    `issued` is when it was made, s since 1970, 0 where it does not say. `token` is its `jti`, else `token_name` of it.
    """

    user: str
    device: str | None
    ttl: float
    issued: float = 0.0
    token: str = ""


def token_name(token: str) -> str:
    """Return what a token without `jti` is called: a hash of what its signature signs.

    The signature itself is left out, for several texts of it mean the same, and ES256 has two signatures of a kind.
    """
    return sha256(token.rpartition(".")[0].encode()).hexdigest()[:32]


class Verifier:
    """Checks tokens by the keys of a ring; `clock` gives s since 1970, `refuses` tells which were revoked."""

    def __init__(
        self,
        ring: Keyring,
        rules: Rules = Rules(),  # noqa: B008 - it is frozen
        clock: Callable[[], float] = time.time,
        *,
        refuses: Callable[[Claims], bool] = lambda _: False,
    ) -> None:
        self._ring = ring
        self._rules = rules
        self._clock = clock
        self._refuses = refuses
        self._headers: dict[str, tuple[Key, ...]] = {}  # of tokens that the library has let pass
        self._keys: tuple[Key, ...] = ()  # those that `_headers` rests on

    def check(self, token: str) -> Claims:
        """Return what the token says. Raises `BadToken`, whose text says why and shows nothing of the token.

        It is `UnknownKey` where a key that is not known here may have signed it, and `RevokedToken`.
        """
        if not token:
            raise BadToken("the token is missing")
        if len(token) > MAX_TOKEN:
            raise BadToken("the token is too long")
        payload = self._quickly(token) or self._by_library(token)
        ttl = time_left(payload, self._rules, self._clock())
        claims = Claims(payload.sub, payload.device, ttl, payload.iat or 0.0, payload.jti or token_name(token))
        if self._refuses(claims):
            raise RevokedToken("the token was revoked")
        return claims

    def _quickly(self, token: str) -> Payload | None:
        """Return the claims of a well-signed token with a known header; None: the library has to look at it."""
        if self._keys is not self._ring.keys:
            self._headers, self._keys = {}, self._ring.keys
        signed, _, signature = token.rpartition(".")
        header, _, claims = signed.partition(".")
        try:
            text = signed.encode()
            for key in self._headers.get(header, ()):
                if key.signed(text, signature):
                    return decode(urlsafe_b64decode(claims + "=="))
        except ValueError:  # a text that cannot be encoded, or base64
            pass
        return None

    def _by_library(self, token: str) -> Payload:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS:
                raise BadToken(f"the token's algorithm (`alg`) is none of {', '.join(ALGORITHMS)}")
            keys = self._ring.find(algorithm, kid)
            payload = next((found for key in keys if (found := _signed_payload(token, key)) is not None), None)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, UnsupportedAlgorithm):
            raise BadToken("the token is malformed") from None
        if payload is None:
            raise self._not_ours(algorithm, kid)
        if len(self._headers) < MAX_HEADERS:
            self._headers[token.partition(".")[0]] = keys
        return decode(payload)

    def _not_ours(self, algorithm: str, kid: str | None) -> BadToken:
        if kid is not None and not self._ring.names(kid):
            return UnknownKey("the token names a key (`kid`) that is not known here")
        if not self._ring.find(algorithm, kid):
            return BadToken("the token's algorithm (`alg`) is not that of its key")
        return BadToken("the token's signature is wrong")


def _signed_payload(token: str, key: Key) -> bytes | None:
    """Return what a key has signed, None if it has not signed this."""
    try:
        payload: bytes = _jws.decode(token, key.material, [key.algorithm])
    except jwt.InvalidSignatureError:
        return None
    return payload
