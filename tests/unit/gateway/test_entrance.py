"""The head of a request in, an answer and a session out, however the network cuts it and whoever has to read it."""

from http import HTTPStatus
from typing import Any

import pytest

from gateway.entrance import Entered, Entrance
from gateway.faults import Refusal
from gateway.handshake import Admission
from tests.unit.gateway.test_request import head

ADMITTED = Admission("t", hello=True)
FOREIGN = head(Cookie="caf\xe9")  # nothing plain: the library reads it


def let_in(target: str, headers: Any) -> Admission | Refusal:
    assert target == "/ws?token=t"
    assert headers.get("Host") == "tocsin.example:8080"
    return ADMITTED


@pytest.mark.parametrize("more", [{}, {"Cookie": "caf\xe9"}], ids=["plain", "by the library"])
@pytest.mark.parametrize("twice", [False, True])
def test_what_proxies_say_reaches_the_judge_as_one_list(more: dict[str, str], twice: bool) -> None:
    heard: list[str | None] = []

    def judge(_target: str, headers: Any) -> Admission:
        heard.append(headers.get("X-Forwarded-For"))
        return ADMITTED

    data = head(X_Forwarded_For="203.0.113.9, 198.51.100.1", **more)
    Entrance(judge).take(data[:-2] + b"x-forwarded-for: 10.0.0.1\r\n\r\n" if twice else data)
    assert heard == ["203.0.113.9, 198.51.100.1" + ", 10.0.0.1" * twice]


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


def answered(*pieces: bytes) -> Entered:
    entrance = Entrance(let_in)
    entered = None
    for piece in pieces:
        assert entered is None
        entered = entrance.take(piece)
    assert entered is not None
    return entered


REQUEST = head()
MALFORMED = {
    "no HTTP": (b"hello there\r\n\r\n", 400),
    "a first line of another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "binary": (b"\x00\x01\x02\x03", 400),
    "no version": (b"GET /ws\r\nHost: h\r\n\r\n", 400),
    "HTTP/1.0": (head(first="GET {} HTTP/1.0"), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.2": (head(first="GET {} HTTP/1.2"), 505),
    "two spaces": (head(first="GET  {} HTTP/1.1"), 400),
    "small letters": (head(first="GET {} http/1.1"), 400),
    "line feeds alone": (REQUEST.replace(b"\r\n", b"\n"), 400),
    "line feeds alone in the headers": (REQUEST.replace(b"\r\nHost", b"\nHost"), 400),
    "a folded header": (head()[:-2] + b" folded\r\n\r\n", 400),
    "a header without colon": (head()[:-2] + b"nonsense\r\n\r\n", 400),
    "a header without name": (head()[:-2] + b": x\r\n\r\n", 400),
    "a space before the colon": (head()[:-2] + b"X : x\r\n\r\n", 400),
    "a control character": (head(Cookie="a\x00b"), 400),
    "a carriage return": (head(Cookie="a\rb"), 400),
    "a target that is no path": (head("ws"), 400),
    "an asterisk": (head("*"), 400),
    "a fragment": (head("/ws?token=t#x"), 400),
    "letters beyond ASCII in the target": (head("/ws?token=\xe9"), 400),
    "no Host": (head(Host=None), 400),
    "an empty Host": (head(Host=""), 400),
    "a Host with a space": (head(Host="a b"), 400),
    "two Hosts": (head()[:-2] + b"Host: other\r\n\r\n", 400),
    "two keys": (head()[:-2] + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 400),
    "two versions": (head()[:-2] + b"Sec-WebSocket-Version: 13\r\n\r\n", 400),
    "two Authorizations": (head(Authorization="Bearer a")[:-2] + b"authorization: Bearer b\r\n\r\n", 400),
    "a body": (head(Content_Length="3") + b"abc", 400),
    "a chunked body": (head(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400),
    "no key": (head(Sec_WebSocket_Key=None), 400),
    "a short key": (head(Sec_WebSocket_Key="c2hvcnQ="), 400),
    "a key that is no base64": (head(Sec_WebSocket_Key="!" * 24), 400),
    "no version of WebSocket": (head(Sec_WebSocket_Version=None), 400),
    "an old version of WebSocket": (head(Sec_WebSocket_Version="8"), 426),
    "no upgrade": (head(Upgrade=None, Connection=None), 426),
    "another upgrade": (head(Upgrade="h2c"), 426),
    "an upgrade without Connection": (head(Connection="keep-alive"), 426),
    "subprotocols that are none": (head(Sec_WebSocket_Protocol="a b"), 400),
    "POST": (head(first="POST {} HTTP/1.1", Content_Length="2") + b"{}", 405),
    "OPTIONS": (head("*", first="OPTIONS {} HTTP/1.1"), 405),
    "HEAD": (head(first="HEAD {} HTTP/1.1"), 405),
    "CONNECT": (head("h:443", first="CONNECT {} HTTP/1.1"), 405),
    "no method that exists": (head(first="FROB {} HTTP/1.1"), 405),
    "an endless line": (b"GET /" + b"x" * 9_000, 414),
    "a long line": (head("/" + "x" * 9_000), 414),
    "a long header": (head(Cookie="x" * 9_000), 431),
    "an endless head": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3_000, 431),
    "a long head": (head(**{f"X{n}": "x" * 1_000 for n in range(20)}), 431),
    "many headers": (head(**{f"X{n}": "x" for n in range(200)}), 431),
}


@pytest.mark.parametrize(("data", "status"), MALFORMED.values(), ids=MALFORMED)
def test_whatever_is_no_handshake_gets_an_http_answer(data: bytes, status: int) -> None:
    entered = answered(data)
    assert entered.admission is None
    assert entered.status == status
    first, *lines = entered.answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert first.startswith(f"HTTP/1.1 {status} ".encode())
    fields = {line.partition(b": ")[0].lower(): line.partition(b": ")[2] for line in lines}
    assert fields[b"connection"] == b"close"
    body = entered.answer.partition(b"\r\n\r\n")[2]
    assert body == b"" if data.startswith(b"HEAD") else len(body) == int(fields[b"content-length"])
    assert fields.get(b"allow") == (b"GET" if status == 405 else None)
    assert fields.get(b"upgrade") == (b"websocket" if status == 426 else None)
    if b"Version: 8" in data:
        assert fields[b"sec-websocket-version"] == b"13"


@pytest.mark.parametrize("data", [data for data, _ in MALFORMED.values()], ids=MALFORMED)
@pytest.mark.parametrize("step", [1, 7])
def test_and_the_same_one_however_the_network_cuts_it(data: bytes, step: int) -> None:
    whole, entrance = answered(data).status, Entrance(let_in)
    for at in range(0, len(data), step):
        if (entered := entrance.take(data[at : at + step])) is not None:
            assert entered.status == whole
            return
    pytest.fail("no answer")


@pytest.mark.parametrize("data", [b"G", b"GET /ws", REQUEST[:-1]])
def test_a_head_that_ends_or_never_ends_is_answered(data: bytes) -> None:
    entrance = Entrance(let_in)
    assert entrance.take(data) is None
    for entered, status in ((entrance.cut_off(), 400), (entrance.late(), 408)):
        assert entered is not None
        assert (entered.status, entered.answer[:13]) == (status, f"HTTP/1.1 {status} ".encode())


def test_who_said_nothing_is_not_answered() -> None:
    entrance = Entrance(let_in)
    assert entrance.take(b"\r\n") is None
    assert entrance.cut_off() is entrance.late() is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\r\n" + REQUEST, id="an empty line before it"),
        pytest.param(head(Content_Length="0"), id="no bytes of a body"),
        pytest.param(head(Connection="upgrade,keep-alive", Upgrade="WEBSOCKET"), id="another order"),
    ],
)
def test_what_is_only_unusual_is_let_in(data: bytes) -> None:
    assert answered(data).admission == ADMITTED


@pytest.mark.parametrize("more", [{}, {"Cookie": "caf\xe9"}], ids=["plain", "by the library"])
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("tocsin", b"tocsin"), ("tocsin.token.a.b.c, tocsin", b"tocsin"), ("chat", None), ("tocsin.token.t", None)],
)
def test_the_answer_names_tocsin_and_never_the_token(offered: str, chosen: bytes | None, more: dict[str, str]) -> None:
    answer = answered(head(Sec_WebSocket_Protocol=offered, **more)).answer
    named = [line.partition(b": ")[2] for line in answer.split(b"\r\n") if b"protocol:" in line.lower()]
    assert named == ([chosen] if chosen else [])


def test_nothing_of_a_refused_request_is_repeated() -> None:
    for data in (head("/ws?token=canary#"), head(Sec_WebSocket_Key="canary"), head(Upgrade="canary"), b"canary\r\n"):
        assert b"canary" not in answered(data).answer
