"""Free ports on loopback, each given by one process of this machine only."""

import errno
import random
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from schemas.addresses import host_port
from schemas.errors import ServerFailed

LOOPBACK: Final = "127.0.0.1"

# Below what kernels give to outgoing connections (from 32768 on): a server that takes seconds to listen would else
# now and then find its port used by somebody's client.
_BLOCK: Final = 128  # ports
_BLOCKS: Final = range(10_240, 32_768, _BLOCK)


class _Own:
    """The ports that this process may give: whole blocks of them, claimed as long as it lives.

    A port that was found free is listened on only later, by another process. Two processes that looked at the same
    time would give the same one; so each gives only ports of blocks that no other process has.
    """

    def __init__(self) -> None:
        self.lock: Final = threading.Lock()
        self._claims: Final[list[socket.socket]] = []
        self._ports: Final[deque[int]] = deque()

    def offers(self) -> Iterator[int]:
        """Yield each port of ours, the one longest not offered first, then those of blocks that it claims."""
        for _ in range(len(self._ports)):
            yield self._next()
        for first in random.SystemRandom().sample(_BLOCKS, len(_BLOCKS)):
            if claim := _claimed(first):
                self._claims.append(claim)
                self._ports.extendleft(range(first + _BLOCK - 1, first - 1, -1))
                for _ in range(_BLOCK):
                    yield self._next()

    def _next(self) -> int:
        self._ports.rotate(-1)
        return self._ports[-1]


_own: Final = _Own()
_reserved: Final[dict[int, socket.socket]] = {}


def free_ports(count: int) -> list[int]:
    """Return different ports that nothing listens on now. Raises `ServerFailed` if there are none."""
    found: list[int] = []
    with _own.lock, ExitStack() as held:
        for port in _own.offers():
            if listener := _bound(LOOPBACK, port):
                held.enter_context(listener)
                found.append(port)
            if len(found) == count:
                return found
    raise ServerFailed("no free port was found on loopback")


def free_port() -> int:
    """Return a port that nothing listens on now. Raises `ServerFailed` if there is none."""
    return free_ports(1)[0]


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server could listen on the port now."""
    return obstacle(port, host) is None


def obstacle(port: int, host: str = LOOPBACK) -> str | None:
    """Return why no server could listen on the port now; None if one could."""
    try:
        _listening(host, port).close()
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return f"port {port} is taken by another process"
        return f"nothing can listen on {host_port(host, port)}: {exc.strerror or exc}"
    return None


def reserve(port: int) -> bool:
    """Return whether no other `tocsin up` on this machine has chosen the port; it is ours as long as we live.

    Somebody listens only seconds later, so a look at who listens now does not keep two of them apart.
    """
    if port in _reserved or sys.platform != "linux":  # elsewhere such names do not go with their process
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0tocsin-up-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved[port] = name
    return True


def _claimed(first: int) -> socket.socket | None:
    """Return what keeps other processes from a block: a datagram socket, which goes with the process that holds it."""
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind((LOOPBACK, first))
    except OSError:
        claim.close()
        return None
    return claim


def _bound(host: str, port: int) -> socket.socket | None:
    try:
        return _listening(host, port)
    except OSError:
        return None


def _listening(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what just ended leaves the port usable
    try:
        listener.bind((host, port))
        listener.listen(1)  # two may bind under SO_REUSEADDR, but only one listens
    except OSError:
        listener.close()
        raise
    return listener
