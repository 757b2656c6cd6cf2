"""A plain request is answered as the library would answer it; everything else is left to the library."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.entrance import choose
from gateway.request import LONGEST, plain

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, 1.3
LINES = {
    "Host": "tocsin.example:8080",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def head(target: str = "/ws?token=t", first: str = "GET {} HTTP/1.1", **lines: str | None) -> bytes:
    """Return a request's head; `lines` (names with _ for -) take the place of the usual ones, None leaves one out."""
    given_lines = {name.replace("_", "-"): value for name, value in lines.items()}
    said = {name: value for name, value in (LINES | given_lines).items() if value is not None}
    return "\r\n".join([first.format(target), *(f"{k}: {v}" for k, v in said.items()), "", ""]).encode("latin-1")


def by_library(data: bytes) -> tuple[Request, bytes] | None:
    """Return the request and the accepting answer, None if the library does not accept it."""
    protocol = ServerProtocol(logger=logging.getLogger("quiet"), select_subprotocol=choose)
    protocol.receive_data(data)
    events = protocol.events_received()
    if not events or not isinstance(events[0], Request):
        return None
    protocol.send_response(protocol.accept(events[0]))
    return (events[0], b"".join(protocol.data_to_send())) if protocol.state is State.OPEN else None


def header(answer: bytes, name: bytes) -> bytes:
    return next(line for line in answer.split(b"\r\n") if line.lower().startswith(name.lower() + b":")).split(b": ")[1]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head(), id="the least"),
        pytest.param(
            head(Connection="keep-alive, Upgrade", Origin="https://a.example", Cookie="a=b; c=d"), id="browser"
        ),
        pytest.param(head(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"), id="extension"),
        pytest.param(head(Upgrade="WebSocket"), id="upper case"),
        pytest.param(head(Authorization="Bearer a.b.c"), id="authorization"),
        pytest.param(head(Sec_WebSocket_Protocol="tocsin, tocsin.token.a.b-_c"), id="subprotocols"),
    ],
)
def test_what_clients_write_is_plain_and_read_as_the_library_reads_it(data: bytes) -> None:
    request = plain(data)
    assert request is not None
    agrees(data)


def agrees(data: bytes) -> None:
    """Compare with the library, if the request is plain."""
    if (request := plain(data)) is None:
        return
    found = by_library(data)
    assert found is not None, "the library would refuse it"
    theirs, answer = found
    assert request.path == theirs.path
    assert request.headers.get("Host") == theirs.headers.get("Host")
    assert request.headers.get("Origin") == theirs.headers.get("Origin")
    assert request.answer.startswith(b"HTTP/1.1 101 ")
    assert header(request.answer, b"Sec-WebSocket-Accept") == header(answer, b"Sec-WebSocket-Accept")
    assert b"Sec-WebSocket-Extensions" not in answer
    assert (b"Sec-WebSocket-Protocol" in request.answer) == (b"Sec-WebSocket-Protocol" in answer)
    assert request.headers.get("Authorization") == theirs.headers.get("Authorization")
    assert request.answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head(first="POST {} HTTP/1.1"), id="method"),
        pytest.param(head(first="GET {} HTTP/1.0"), id="old HTTP"),
        pytest.param(head(Upgrade="h2c"), id="another protocol"),
        pytest.param(head(Connection="close"), id="no upgrade"),
        pytest.param(head(Sec_WebSocket_Version="8"), id="old version"),
        pytest.param(head(Sec_WebSocket_Key="c2hvcnQ="), id="short key"),
        pytest.param(head(Sec_WebSocket_Key=None), id="no key"),
        pytest.param(head(Content_Length="3"), id="body"),
        pytest.param(head(Transfer_Encoding="chunked"), id="coded body"),
        pytest.param(head(Sec_WebSocket_Protocol="a b"), id="bad subprotocol"),
        pytest.param(head(Host=None), id="no host"),
        pytest.param(head("http://h/ws"), id="whole URL"),
        pytest.param(head("/ws#x"), id="fragment"),
        pytest.param(head(Sec_WebSocket_Extensions=";;"), id="bad extension"),
        pytest.param(head(**{"X Y": "1"}), id="bad name"),
        pytest.param(head(Cookie="caf\xe9"), id="not ASCII"),
        pytest.param(head(Cookie="x" * LONGEST), id="long"),
        pytest.param(head()[:-2] + b"Host: other\r\n\r\n", id="two hosts"),
        pytest.param(head()[:-2] + b" folded\r\n\r\n", id="folded line"),
        pytest.param(head().replace(b"\r\n", b"\n"), id="bare line feeds"),
    ],
)
def test_everything_else_is_the_library_s(data: bytes) -> None:
    assert plain(data) is None


names = st.sampled_from([*LINES, "Origin", "Content-Length", "Sec-WebSocket-Extensions", "X", "bad name", ""])
values = st.one_of(
    st.sampled_from(
        [*LINES.values(), "keep-alive, Upgrade", "close", "0", "permessage-deflate", "a; b=1", " x ", "\t"]
    ),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=12),
)


@given(
    base=st.sampled_from([head(), head(Connection="keep-alive, Upgrade", Origin="http://a")]),
    more=st.lists(st.tuples(names, values), max_size=3),
    target=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=8),
    cut=st.integers(0, 300) | st.none(),
)
def test_whatever_is_taken_for_plain_is_what_the_library_would_accept(
    base: bytes, more: list[tuple[str, str]], target: str, cut: int | None
) -> None:
    lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in more)
    data = base[:-2].replace(b"/ws?token=t", target.encode("latin-1"), 1) + lines + b"\r\n"
    agrees(data)
    if cut is not None:
        agrees(data[:cut] + data[cut + 1 :])
