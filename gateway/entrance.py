"""How a connection becomes a WebSocket: the head of the request in, the answer out. Sans-I/O.

Whatever came is answered, also what is no HTTP: who reads a log of a proxy sees a status and not a cut connection.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, Protocol, cast

import msgspec
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway.credentials import SUBPROTOCOL
from gateway.faults import Refusal, early_fault, fault, handshake_fault
from gateway.handshake import Admission
from gateway.request import plain

MAX_HEAD: Final = 16 * 1024  # bytes of the request's head

QUIET: Final = logging.getLogger("gateway.websocket.protocol")
QUIET.setLevel(logging.WARNING)  # below that the library logs requests, and with them tokens

_TOO_LARGE: Final = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too large\n")
_CUT_OFF: Final = Refusal(HTTPStatus.BAD_REQUEST, "the request is not whole\n")
_LATE: Final = Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time\n")
_MALFORMED: Final = Refusal(HTTPStatus.BAD_REQUEST, "the request is malformed\n")
_ASKED: Final = ("Host", "Origin", "Authorization", "Sec-WebSocket-Protocol", "X-Forwarded-For")


class Judge(Protocol):
    """Who says whether a request is let in: `Handshake.judge`."""

    def __call__(self, target: str, headers: Mapping[str, str], /) -> Admission | Refusal:
        """Return the verdict on a request for `target` with these headers."""


class Entered(msgspec.Struct, frozen=True):
    """What comes of a head: `answer` is to be written; without an `admission` the connection ends after it.

    `rest` is what came after the head. `status` is that of a refusal.
    """

    answer: bytes
    admission: Admission | None = None
    rest: bytes = b""
    status: int = 0


class Entrance:
    """Gathers the head of one connection's request."""

    __slots__ = ("_head", "_judge")

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._head = b""

    def take(self, data: bytes) -> Entered | None:
        """Take what came; None: the head is not whole yet."""
        # An empty line before a request is passed over (RFC 9112, 2.2).
        self._head = self._head + data if self._head else data.lstrip(b"\r\n")
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            refusal = _TOO_LARGE if len(self._head) > MAX_HEAD else early_fault(self._head)
            return refused(refusal, self._head) if refusal else None
        # Nothing past the head is fed before the request is accepted: a frame there would be taken too early.
        head, rest = self._head[:end], self._head[end:]
        request = plain(head)
        if request is None:
            return self._by_library(head, rest)
        verdict = self._judge(request.path, request.headers)
        if isinstance(verdict, Refusal):
            return refused(verdict, head)
        return Entered(request.answer, verdict, rest)

    def cut_off(self) -> Entered | None:
        """Learn that no more will come; None: nothing had come, so there is nobody to answer."""
        return refused(_CUT_OFF, self._head) if self._head else None

    def late(self) -> Entered | None:
        """Learn that the time is over; None: nothing had come, so there is nobody to answer."""
        return refused(_LATE, self._head) if self._head else None

    def _by_library(self, head: bytes, rest: bytes) -> Entered:
        """Judge a request that is not plain; where nothing is wrong with it, the library accepts it."""
        refusal = _TOO_LARGE if len(head) > MAX_HEAD else fault(head)
        if refusal is not None:
            return refused(refusal, head)
        library = ServerProtocol(logger=QUIET, select_subprotocol=choose)
        library.receive_data(head)
        events = library.events_received()
        if not events:  # what the library reads more strictly than we do
            return refused(_MALFORMED, head)
        request = cast("Request", events[0])
        found = {name: ", ".join(values) for name in _ASKED if (values := request.headers.get_all(name))}
        verdict = self._judge(request.path, found)
        if isinstance(verdict, Refusal):
            return refused(verdict, head)
        joined = {name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers}
        if refusal := handshake_fault(joined):
            return refused(refusal, head)
        response = library.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return refused(_MALFORMED, head)
        library.send_response(response)
        return Entered(_said(library), verdict, rest)


def choose(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Choose our subprotocol if it is offered, and never one that carries a token."""
    return next((one for one in offered if one == SUBPROTOCOL), None)


def refused(refusal: Refusal, head: bytes = b"") -> Entered:
    """Return what comes of a request that is refused, or of one that is not even waited for."""
    library = ServerProtocol(logger=QUIET)
    response = library.reject(refusal.status, refusal.text)
    for name, value in refusal.headers:
        response.headers[name] = value
    if head.startswith(b"HEAD "):
        response.body = b""
    library.send_response(response)
    return Entered(_said(library), status=refusal.status.value)


def _said(library: ServerProtocol) -> bytes:
    return b"".join(library.data_to_send())  # the end of what it says is no bytes
