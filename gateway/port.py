"""Whose port it is: gateways of one deployment share theirs, and the kernel would share it with any other as well.

With SO_REUSEPORT it lets every process of the same user listen on a port and deals connections out at random. Half of
the clients of one deployment would reach another, which does not know their tokens. So a gateway looks first whether
somebody listens, and listens beside gateways of its own deployment only: those have leases that name machine and port.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from schemas.addresses import host_port
from schemas.errors import TocsinError

PATIENCE: Final = 5.0  # s in which a gateway that has just begun to listen, or whose Redis lost everything, has a lease
RETRY: Final = 0.2  # s


class PortTaken(TocsinError):
    """Another program listens on the port."""


async def require(
    host: str,
    port: int,
    neighbours: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]],
    *,
    patience: float = PATIENCE,
) -> None:
    """Return if nobody listens on the port, or a gateway of this deployment, by the leases that `neighbours` reads.

    Raises `PortTaken`; port 0 is a free one by definition.
    """
    if not port:
        return
    end = asyncio.get_running_loop().time() + patience
    while await _is_taken(host, port):
        if any(_listens_here(one, port) for one in await neighbours()):
            return
        if asyncio.get_running_loop().time() > end:
            raise PortTaken(
                f"the port {host_port(host, port)} cannot be used: a gateway of another deployment listens on it, or "
                "another program; TOCSIN_PORT chooses another one"
            )
        await asyncio.sleep(RETRY)


def _listens_here(lease: Mapping[str, Any], port: int) -> bool:
    """Say whether a lease is of a gateway on this port of this machine; those of before say it by their URL alone."""
    if "port" not in lease:
        return str(lease.get("url", "")).endswith(f":{port}")
    return (lease.get("machine"), lease.get("port")) == (machine(), port)


def machine() -> str:
    """Return what tells this machine, or this container, from others."""
    return socket.gethostname()


async def _is_taken(host: str, port: int) -> bool:
    """Say whether somebody listens on an address of the host: then it cannot be had for oneself."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:  # a name that cannot be resolved is said when the gateway itself tries
        return False
    return any(_is_listened_to(family, address) for family, _, _, _, address in found)


def _is_listened_to(family: int, address: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended lately do not count
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(address)
        except OSError as exc:
            return exc.errno == errno.EADDRINUSE  # anything else is said when the gateway itself tries
    return False
