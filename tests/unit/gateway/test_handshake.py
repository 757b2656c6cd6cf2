from http import HTTPStatus

import pytest
from websockets.datastructures import Headers

from gateway.credentials import DIFFER
from gateway.faults import Refusal, retry_after
from gateway.handshake import RETRY, Admission, Handshake
from gateway.origins import Origins

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2ln"


class Doors:
    reason: str | None = None

    def closed(self) -> str | None:
        return self.reason


def judge(target: str, headers: Headers | None = None, reason: str | None = None) -> Admission | Refusal:
    doors = Doors()
    doors.reason = reason
    return Handshake(Origins(""), doors).judge(target, headers or Headers(Host="h"))


@pytest.mark.parametrize(("query", "hello"), [("", False), ("&hello=1", True), ("&hello=0", False)])
def test_a_good_request_is_let_in(query: str, hello: bool) -> None:
    assert judge(f"/ws?token={TOKEN}{query}") == Admission(TOKEN, hello)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (f"/ws?token={TOKEN}", {}),
        ("/ws", {"Authorization": f"Bearer {TOKEN}"}),
        ("/ws", {"Authorization": f"bearer   {TOKEN}"}),
        ("/ws", {"Sec-WebSocket-Protocol": f"tocsin, tocsin.token.{TOKEN}"}),
        ("/ws", {"Sec-WebSocket-Protocol": f"tocsin.token.{TOKEN},other,tocsin"}),
        (f"/ws?token={TOKEN}&token={TOKEN}", {"Authorization": f"Bearer {TOKEN}"}),
        (f"/ws?token={TOKEN}", {"Authorization": "Basic dTpw", "Sec-WebSocket-Protocol": "chat"}),
        ("/ws?token=", {"Authorization": f"Bearer {TOKEN}"}),
        (f"http://h/ws?token={TOKEN}", {}),
        (f"HTTPS://other:1/ws?token={TOKEN}", {"Origin": "https://other:1"}),
    ],
)
def test_a_token_is_found_wherever_it_may_be(target: str, headers: dict[str, str]) -> None:
    assert judge(target, Headers(Host="h", **headers)) == Admission(TOKEN)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/ws?token=a&token=b", {}),
        ("/ws?token=a", {"Authorization": "Bearer b"}),
        ("/ws?token=a", {"Sec-WebSocket-Protocol": "tocsin, tocsin.token.b"}),
        ("/ws?hello=1", {"Sec-WebSocket-Protocol": "tocsin, tocsin.token.b, tocsin.token.a"}),
    ],
)
def test_tokens_that_differ_are_refused(target: str, headers: dict[str, str]) -> None:
    verdict = judge(target, Headers(Host="h", **headers))
    assert isinstance(verdict, Admission)
    assert str(verdict.refused) == DIFFER


def test_a_token_may_come_with_hello_and_with_nothing_else() -> None:
    assert judge("/ws?hello=1") == Admission(None, hello=True)
    assert judge("/ws") == Admission("")


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/", Headers(), HTTPStatus.NOT_FOUND),
        ("/ws/", Headers(), HTTPStatus.NOT_FOUND),
        ("http://h", Headers(), HTTPStatus.NOT_FOUND),
        ("http:///ws", Headers(), HTTPStatus.BAD_REQUEST),
        ("http://u@h/ws", Headers(), HTTPStatus.BAD_REQUEST),
        ("/ws?" + "a=b&" * 20, Headers(), HTTPStatus.BAD_REQUEST),
        ("/ws", Headers([("Origin", "http://a"), ("Origin", "http://b")]), HTTPStatus.BAD_REQUEST),
        ("//[", Headers(), HTTPStatus.NOT_FOUND),
        ("/ws", Headers(Origin="http://evil", Host="h"), HTTPStatus.FORBIDDEN),
        ("http://h/ws", Headers(Origin="http://evil", Host="evil"), HTTPStatus.FORBIDDEN),
        ("/ws", Headers({"Sec-WebSocket-Protocol": "tocsin.token.a"}), HTTPStatus.BAD_REQUEST),
    ],
)
def test_others_are_told_why_not(target: str, headers: Headers, status: HTTPStatus) -> None:
    verdict = judge(target, headers)
    assert isinstance(verdict, Refusal)
    assert verdict.status == status


def test_a_closed_door_comes_before_the_token() -> None:
    assert judge("/ws", reason="the gateway is full") == Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE, "the gateway is full\n", retry_after(RETRY)
    )
