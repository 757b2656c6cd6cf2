import time
from http import HTTPStatus

import jwt
import pytest
from websockets.datastructures import Headers

from gateway.auth import Origins, Verifier
from gateway.handshake import RETRY, Admission, Handshake, Refusal

SECRET = "a secret for this test only, and long enough"


class Doors:
    reason: str | None = None

    def closed(self) -> str | None:
        return self.reason


def token() -> str:
    return jwt.encode({"sub": "u1", "exp": time.time() + 60}, SECRET, "HS256")


def judge(target: str, headers: Headers | None = None, reason: str | None = None) -> Admission | Refusal:
    doors = Doors()
    doors.reason = reason
    return Handshake(Verifier(SECRET), Origins(""), doors).judge(target, headers or Headers(Host="h"))


@pytest.mark.parametrize(("query", "hello"), [("", False), ("&hello=1", True), ("&hello=0", False)])
def test_a_good_request_is_let_in(query: str, hello: bool) -> None:
    verdict = judge(f"/ws?token={token()}{query}")
    assert isinstance(verdict, Admission)
    assert (verdict.claims.user, verdict.hello) == ("u1", hello)


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/", Headers(), HTTPStatus.NOT_FOUND),
        ("/ws/", Headers(), HTTPStatus.NOT_FOUND),
        ("/ws", Headers(), HTTPStatus.UNAUTHORIZED),
        ("/ws?token=a&token=b", Headers(), HTTPStatus.UNAUTHORIZED),
        ("/ws?" + "a=b&" * 20, Headers(), HTTPStatus.BAD_REQUEST),
        ("/ws", Headers([("Origin", "http://a"), ("Origin", "http://b")]), HTTPStatus.BAD_REQUEST),
        ("//[", Headers(), HTTPStatus.NOT_FOUND),
        ("/ws", Headers(Origin="http://evil", Host="h"), HTTPStatus.FORBIDDEN),
    ],
)
def test_others_are_told_why_not(target: str, headers: Headers, status: HTTPStatus) -> None:
    verdict = judge(target, headers)
    assert isinstance(verdict, Refusal)
    assert verdict.status == status


def test_a_closed_door_comes_before_the_token() -> None:
    assert judge("/ws", reason="the gateway is full") == Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE, "the gateway is full\n", RETRY
    )
