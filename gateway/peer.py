"""A session and what carries it."""

from typing import Protocol

from gateway.session import Session
from gateway.wheel import Visited


class Transport(Visited, Protocol):
    """What carries a session: a WebSocket now; the session does not know."""

    kind: str  # what the records call it, such as ws

    def send(self, frames: list[bytes]) -> int:
        """Hand frames over, in order, and return how many bytes wait for the network."""

    def close(self, code: int, reason: str) -> None:
        """End it with a code of `gateway.codes`; the hub is told by `gone`, at once or later."""


class Peer:
    """A session and what carries it."""

    __slots__ = ("dirty", "partition", "session", "transport")

    def __init__(self, session: Session, transport: Transport, partition: int) -> None:
        self.session = session
        self.transport = transport
        self.partition = partition
        self.dirty = False
