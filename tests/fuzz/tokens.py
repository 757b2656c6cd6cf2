"""Who asks to be let in: tokens, and the request that opens a WebSocket."""

import random
from typing import Final

import jwt
from websockets.datastructures import Headers

from gateway.auth import Origins, Verifier
from gateway.handshake import Admission, Handshake, Refusal
from schemas.errors import BadToken
from tests.fuzz.inputs import grown_object
from tests.fuzz.target import NOW, SECRET, Target

VERIFIER = Verifier(SECRET, clock=lambda: NOW)
TOKEN: Final = jwt.encode({"sub": "u1", "exp": NOW + 600, "iat": NOW, "jti": "j"}, SECRET, "HS256").encode()
CLAIMS: Final = (
    b'{"sub":"u1","exp":1800000600}',
    b'{"sub":"u1","device":"d","exp":1800000600.5,"iat":1,"jti":"j","nbf":1}',
)


def token(data: bytes) -> None:
    """A token as text."""
    VERIFIER.check(data.decode("latin-1"))


def claims(data: bytes) -> None:
    """A token that is signed well, whatever it says; a producer of tokens may be wrong, too."""
    VERIFIER.check(jwt.api_jws.encode(data, SECRET, "HS256"))


def _grown_claims(rng: random.Random) -> bytes:
    return grown_object(rng, (), ("sub", "exp", "device", "iat", "jti", "nbf", "aud", "iss", "crit"))


class Open:
    def closed(self) -> str | None:
        return None


_handshake = Handshake(VERIFIER, Origins(""), Open())
_listed = Handshake(VERIFIER, Origins("https://app.example, http://localhost:3000"), Open())


def handshake(data: bytes) -> None:
    """The target of a request and, after line breaks, its Origin and Host."""
    target, _, rest = data.decode("latin-1").partition("\n")
    origin, _, host = rest.partition("\n")
    headers = Headers()
    for name, text in (("Origin", origin), ("Host", host)):
        for one in text.split("\t") if text else ():
            headers[name] = "".join(letter for letter in one if letter.isprintable())  # as its parser lets through
    for judging in (_handshake, _listed):
        assert isinstance(judging.judge(target, headers), Admission | Refusal)


TARGETS_OF_REQUESTS: Final = (
    b"/ws?token=" + TOKEN + b"&hello=1\nhttps://app.example\napp.example",
    b"/ws?token=%41\nhttp://localhost:3000\nlocalhost:3000",
    b"http://[::1]/ws?token=a\nhttp://[::1]:80\n[::1]:80",
)


TARGETS: Final = (
    Target("token", token, (TOKEN,), (BadToken,), None, 2),
    Target("claims", claims, CLAIMS, (BadToken,), _grown_claims, 2),
    Target("handshake", handshake, TARGETS_OF_REQUESTS, (), None, 2),
)
