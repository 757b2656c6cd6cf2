"""What comes before a session: the request, room for who asks, and whose the token is.

Where no request is let in, HTTP says why. After that a close code does, since a browser's page cannot see the status of
a handshake.
"""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol

import msgspec

from gateway import codes
from gateway.admission import Caller, Overload
from gateway.auth import Claims
from gateway.entrance import Entered, Entrance, refused
from gateway.faults import Refusal, retry_after
from gateway.handshake import Admission, Handshake
from gateway.hub import Hub
from gateway.passing import Way
from gateway.proving import AWAY, close_code
from schemas import frames
from schemas.errors import BadFrame, BadToken

OPENING: Final = 5.0  # s that the handshake may take, and then the proof whose the token is


class Opened(Protocol):
    """The connection that an opening is of. Each of these but `way`, `pause`, `go_on` and `fail` ends the opening."""

    way: Way

    def turn_away(self, entered: Entered | None) -> None:
        """Answer a request that does not become a WebSocket; None: there is nobody to answer."""

    def refuse(self, code: int, reason: str) -> None:
        """End a connection that was accepted and never became a session."""

    def begin(self, claims: Claims, said: bytes | None, *, hello: bool) -> None:
        """Begin the session of a user; `said` is what it is to hear first."""

    def pause(self) -> None:
        """Read nothing until `go_on`."""

    def go_on(self) -> None:
        """Deal with what came meanwhile, and read on."""

    def fail(self, exc: Exception) -> None:
        """End the connection, in which an exception was raised."""


class Opening:
    """One connection until it has a session or is refused. `by` is when its next step must be done, s."""

    __slots__ = ("_caller", "_entrance", "_hub", "_socket", "by", "proving")

    def __init__(self, hub: Hub, handshake: Handshake, socket: Opened) -> None:
        self._hub = hub
        self._socket = socket
        self._caller: Caller | None = None
        self._entrance: Entrance | None = Entrance(partial(self._judge, handshake))
        self.by = float("inf")
        self.proving = False  # its token is being looked at; what it says meanwhile is not dealt with

    @property
    def asks(self) -> bool:
        """Whether the request is not whole yet."""
        return self._entrance is not None

    # The request

    def enter(self, caller: Caller) -> None:
        """Wait for the request of a caller, unless too many of its address are waited for."""
        self._caller = caller
        self.by = self._hub.clock() + OPENING
        if caller.shut_out and caller.over is not None:
            self._socket.turn_away(refused(_refusal(caller.over)))

    def take(self, data: bytes) -> bytes:
        """Gather the head of the request and answer it; return what came after it, once it was let in."""
        entered = self._entrance.take(data) if self._entrance is not None else None
        if entered is None:
            return b""
        if entered.admission is None:
            self._socket.turn_away(entered)
            return b""
        self._entrance = None
        self._socket.way.send(entered.answer)
        self.by = self._hub.clock() + OPENING
        self._begin(entered.admission)
        return entered.rest

    def _judge(self, handshake: Handshake, target: str, headers: Mapping[str, str]) -> Admission | Refusal:
        """Judge a request, first whether there is room for its client."""
        if self._caller is not None and (over := self._caller.ask(headers, self._hub.clock())) is not None:
            return _refusal(over)
        return handshake.judge(target, headers)

    def cut_off(self) -> None:
        """Learn that the client sends no more."""
        if self._entrance is not None:
            self._socket.turn_away(self._entrance.cut_off())

    def late(self) -> None:
        """Learn that the time of this step is over."""
        if self._entrance is not None:
            self._socket.turn_away(self._entrance.late())
        elif self.proving:
            self.proving = False
            self._socket.refuse(codes.RESTART, AWAY)
            self._socket.go_on()
        else:
            self._socket.refuse(codes.RESTART, "`hello` came too late")

    # Whose it is

    def _begin(self, admission: Admission) -> None:
        if admission.refused is not None:
            self._take_verdict(None, hello=False, verdict=admission.refused)
        elif admission.token is not None:
            self._prove(admission.token, None, hello=admission.hello)

    def hear(self, data: bytes) -> None:
        """Take the first message of a connection whose request brought no token: nothing but `hello` is heard.

        One with a fault beside its token is left to the session, which answers it as any other.
        """
        token, said = None, data
        try:
            hello = frames.decode_client_frame(data)
        except BadFrame as exc:
            token = frames.token_of(data) if exc.frame == "hello" else None
        else:
            if isinstance(hello, frames.Hello):
                token, said = hello.token, frames.encode(msgspec.structs.replace(hello, token=None))
        if token is None:
            self._socket.refuse(codes.BAD_TOKEN, "the token is missing")
        else:
            self._prove(token, said, hello=True)

    def _prove(self, token: str, said: bytes | None, *, hello: bool) -> None:
        """Find out whose the token is. `said` is a message that the session is to hear first."""
        prover = self._hub.prover
        verdict = prover.judge(token)
        if not (isinstance(verdict, BadToken) and prover.waits(verdict)):
            self._take_verdict(said, hello=hello, verdict=verdict)
            return
        self.proving = True
        self._socket.pause()
        whom = self._caller.address if self._caller is not None else None
        prover.prove_later(token, whom, partial(self._proven, said, hello))

    def _proven(self, said: bytes | None, hello: bool, verdict: Claims | BadToken) -> None:
        """Go on with a token that had to wait for its key, unless the connection has ended meanwhile."""
        if not self.proving:
            return
        self.proving = False
        try:
            self._take_verdict(said, hello=hello, verdict=verdict)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self._socket.fail(exc)
        self._socket.go_on()

    def _take_verdict(self, said: bytes | None, *, hello: bool, verdict: Claims | BadToken) -> None:
        """Begin the session of a good token, if there is room for its user."""
        if isinstance(verdict, BadToken):
            self._socket.refuse(close_code(verdict), str(verdict))
        elif self._hub.draining:
            self._socket.refuse(codes.DRAIN, codes.REASONS[codes.DRAIN])
        elif self._caller is not None and (over := self._caller.seat(verdict.user, self._hub.clock())) is not None:
            self._socket.refuse(_code_of(over), f"{over.text}; come again after {over.retry_after} s")
        else:
            self._socket.begin(verdict, said, hello=hello)


def _refusal(over: Overload) -> Refusal:
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, f"{over.text}\n", retry_after(over.retry_after))


def _code_of(over: Overload) -> int:
    return codes.TOO_MANY if over.limit == "address_sessions" else codes.RATE
