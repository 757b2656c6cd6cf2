"""How a connection becomes a session: the head of the request in; the answer, and who may come in, out. Sans-I/O."""

import logging
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

import msgspec
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.handshake import Admission, Refusal
from gateway.request import plain

MAX_HEAD: Final = 16 * 1024  # bytes of the request's head

QUIET: Final = logging.getLogger("gateway.websocket.protocol")
QUIET.setLevel(logging.WARNING)  # below that the library logs requests, and with them tokens


class Judge(Protocol):
    """Who says whether a request is let in: `Handshake.judge`."""

    def __call__(self, target: str, headers: Any, /) -> Admission | Refusal:
        """Return the verdict on a request for `target` with these headers."""


class Entered(msgspec.Struct, frozen=True):
    """What comes of a whole head: `answer` is to be written; without an `admission` the connection ends after it.

    `rest` is what came after the head. `status` is that of a refusal, 0 where there is not even that to say.
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
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4 and len(self._head) <= MAX_HEAD:
            return None
        if end > MAX_HEAD or end < 4:
            too_large = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too large\n")
            return _refused(too_large, _library())
        # Nothing past the head is fed before the request is accepted: a frame there would be taken too early.
        head, rest = self._head[:end], self._head[end:]
        request = plain(head)
        if request is None:
            return self._by_library(head, rest)
        verdict = self._judge(request.path, request.headers)
        if isinstance(verdict, Refusal):
            return _refused(verdict, _library())
        return Entered(request.answer, verdict, rest)

    def _by_library(self, head: bytes, rest: bytes) -> Entered:
        """Let the library answer a request that is not plain."""
        library = _library()
        library.receive_data(head)
        events = library.events_received()
        if not events:  # it cannot be read
            return Entered(_said(library))
        request = cast("Request", events[0])
        verdict = self._judge(request.path, request.headers)
        if isinstance(verdict, Refusal):
            return _refused(verdict, library)
        response = library.accept(request)
        library.send_response(response)
        if library.state is not State.OPEN:
            return Entered(_said(library), status=response.status_code)
        return Entered(_said(library), verdict, rest)


def _library() -> ServerProtocol:
    return ServerProtocol(logger=QUIET)


def _refused(refusal: Refusal, library: ServerProtocol) -> Entered:
    response = library.reject(refusal.status, refusal.text)
    if refusal.retry_after:
        response.headers["Retry-After"] = str(refusal.retry_after)
    library.send_response(response)
    return Entered(_said(library), status=refusal.status.value)


def refused(refusal: Refusal) -> Entered:
    """Return what comes of a connection whose request is not even waited for."""
    return _refused(refusal, _library())


def _said(library: ServerProtocol) -> bytes:
    return b"".join(library.data_to_send())  # the end of what it says is no bytes
