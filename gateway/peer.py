"""A session and what carries it."""

import time
from typing import Protocol

from gateway.auth import Claims
from gateway.passing import Way
from gateway.session import Session
from gateway.wheel import Visited


class Transport(Visited, Protocol):
    """What carries a session: a WebSocket now; the session does not know."""

    kind: str  # what the records call it, such as ws
    way: Way  # where what is framed already goes; `Session.choke` is called where the network does not take it

    def send(self, frames: list[bytes]) -> int:
        """Hand frames over, in order, and return how many bytes wait for the network."""

    def close(self, code: int, reason: str) -> None:
        """End it with a code of `gateway.codes`; the hub is told by `gone`, at once or later."""

    def abort(self) -> None:
        """End it at once, without a word."""


class Peer:
    """A session, what carries it, and the token that it rests on; `since` is when it opened, ms since 1970."""

    __slots__ = ("claims", "dirty", "partition", "session", "since", "transport")

    def __init__(self, session: Session, transport: Transport, partition: int, claims: Claims) -> None:
        self.session = session
        self.transport = transport
        self.partition = partition
        self.claims = claims
        self.since = round(time.time() * 1000)
        self.dirty = False
