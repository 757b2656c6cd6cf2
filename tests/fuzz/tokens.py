"""Who asks to be let in: tokens, and the request that opens a WebSocket."""

import random
import zlib
from typing import Final

import jwt
from websockets.datastructures import Headers

from gateway.auth import Verifier
from gateway.claims import Rules
from gateway.entrance import Entrance
from gateway.faults import Refusal
from gateway.handshake import Admission, Handshake
from gateway.keys import Keyring, secret_key
from gateway.origins import Origins
from schemas.errors import BadToken
from tests.fuzz.inputs import grown_object
from tests.fuzz.target import NOW, SECRET, Target

VERIFIER = Verifier(Keyring([secret_key(SECRET)]), Rules(), lambda: NOW)
TOKEN: Final = jwt.encode({"sub": "u1", "exp": NOW + 600, "iat": NOW, "jti": "j"}, SECRET, "HS256").encode()
CLAIMS: Final = (
    b'{"sub":"u1","exp":1800000600}',
    b'{"sub":"u1","device":"d","exp":1800000600.5,"iat":1800000000,"jti":"j","nbf":1}',
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


_handshake = Handshake(Origins(""), Open())
_listed = Handshake(Origins("https://app.example, http://localhost:3000"), Open())


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


def head(data: bytes) -> None:
    """The head of a request in pieces: whatever it is, it is answered, or more of it is waited for."""
    rng, entrance = random.Random(zlib.crc32(data)), Entrance(_handshake.judge)
    at = 0
    while at < len(data):
        piece = data[at : at + rng.choice((1, 30, 100_000))]
        if (entered := entrance.take(piece)) is not None:
            assert entered.answer.startswith(b"HTTP/1.1 101 " if entered.admission else b"HTTP/1.1 ")
            assert entered.admission or entered.status >= 400
            return
        at += len(piece)
    for entered in (entrance.cut_off(), entrance.late()):
        assert (entered is None and not data.strip(b"\r\n")) or (entered and entered.status in (400, 408))


HEADS: Final = (
    b"GET /ws?token=" + TOKEN + b" HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Origin: http://h\r\nAuthorization: Bearer x\r\nSec-WebSocket-Protocol: tocsin, tocsin.token.x\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"POST http://h/ws HTTP/1.0\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)


TARGETS: Final = (
    Target("head", head, HEADS, (), None, 2),
    Target("token", token, (TOKEN,), (BadToken,), None, 2),
    Target("claims", claims, CLAIMS, (BadToken,), _grown_claims, 2),
    Target("handshake", handshake, TARGETS_OF_REQUESTS, (), None, 2),
)
