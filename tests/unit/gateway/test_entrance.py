"""The head of a request in, an answer and a session out, however the network cuts it and whoever has to read it."""

from http import HTTPStatus
from typing import Any

import pytest

from gateway.auth import Claims
from gateway.entrance import MAX_HEAD, Entered, Entrance
from gateway.handshake import Admission, Refusal
from tests.unit.gateway.test_request import head

ADMITTED = Admission(Claims("u1", "phone", 60.0), hello=True)
FOREIGN = head(Cookie="caf\xe9")  # nothing plain: the library reads it


def let_in(target: str, headers: Any) -> Admission | Refusal:
    assert target == "/ws?token=t"
    assert headers.get("Host") == "tocsin.example:8080"
    return ADMITTED


def turn_away(_target: str, _headers: Any) -> Admission | Refusal:
    return Refusal(HTTPStatus.UNAUTHORIZED, "no token\n")


@pytest.mark.parametrize("request_head", [head(), FOREIGN], ids=["plain", "by the library"])
@pytest.mark.parametrize("cut", [1, 40, None])
def test_who_may_come_in_is_answered_and_what_came_after_is_handed_on(request_head: bytes, cut: int | None) -> None:
    entrance, data = Entrance(let_in), request_head + b"\x81\x80abcd"
    step = cut or len(data)
    entered = None
    for at in range(0, len(data), step):
        entered = entrance.take(data[at : at + step])
        if entered is not None:
            data = entered.rest + data[at + step :]
            break
    assert entered is not None
    assert entered.answer.startswith(b"HTTP/1.1 101 ")
    assert (entered.admission, entered.status, data) == (ADMITTED, 0, b"\x81\x80abcd")


@pytest.mark.parametrize("request_head", [head(), FOREIGN], ids=["plain", "by the library"])
def test_who_may_not_is_told_why(request_head: bytes) -> None:
    entered = Entrance(turn_away).take(request_head + b"more")
    assert entered is not None
    assert entered.answer.startswith(b"HTTP/1.1 401 ")
    assert entered.answer.endswith(b"no token\n")
    assert (entered.admission, entered.status, entered.rest) == (None, 401, b"")


def test_a_request_that_is_no_websocket_s_is_refused_by_the_library() -> None:
    entered = Entrance(let_in).take(head(Upgrade=None, Connection=None))
    assert entered is not None
    assert entered.answer.startswith(b"HTTP/1.1 426 ")
    assert (entered.admission, entered.status) == (None, 426)


def test_what_is_no_http_ends_the_connection() -> None:
    entered = Entrance(let_in).take(b"\x16\x03\x01 hello\r\n\r\n")
    assert entered == Entered(b"")


@pytest.mark.parametrize("data", [b"GET /" + b"x" * MAX_HEAD, head(Cookie="x" * MAX_HEAD)], ids=["endless", "long"])
def test_a_head_that_is_too_large_is_refused(data: bytes) -> None:
    entered = Entrance(let_in).take(data)
    assert entered is not None
    assert entered.status == 431
