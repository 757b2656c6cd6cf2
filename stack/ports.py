"""Free ports on loopback."""

import random
import socket
from contextlib import ExitStack
from typing import Final

from schemas.errors import ServerFailed

LOOPBACK: Final = "127.0.0.1"

# Below what kernels give to outgoing connections (from 32768 on): a server that takes seconds to listen would else
# now and then find its port used by somebody's client.
_RANGE: Final = range(10_240, 32_768)
_TRIES: Final = 1_000

_choice = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Return different ports that nothing listens on now. Raises `ServerFailed` if there are none."""
    found: list[int] = []
    with ExitStack() as held:
        for port in _choice.sample(_RANGE, _TRIES):
            if len(found) == count:
                return found
            if listener := _bound(LOOPBACK, port):
                held.enter_context(listener)
                found.append(port)
    raise ServerFailed("no free port was found on loopback")


def free_port() -> int:
    """Return a port that nothing listens on now. Raises `ServerFailed` if there is none."""
    return free_ports(1)[0]


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server could listen on the port now."""
    if listener := _bound(host, port):
        listener.close()
    return listener is not None


def _bound(host: str, port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what just ended leaves the port usable
    try:
        listener.bind((host, port))
        listener.listen(1)  # two may bind under SO_REUSEADDR, but only one listens
    except OSError:
        listener.close()
        return None
    return listener
