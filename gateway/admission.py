"""How many connections are taken from whom: by client address and by user. Pure, the clock is passed in.

An address is that of the connection, or, where a configured proxy connects, the one that the proxy names. IPv6 clients
are counted by /64, since each may have all of that. Everything that is remembered of a client is bounded.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from math import ceil
from typing import Final

import msgspec

from gateway.allowance import QUOTAS, Allowance, Quotas
from gateway.bucket import Limits
from gateway.ledger import Ledger

Network = IPv4Network | IPv6Network

FORWARDED: Final = "X-Forwarded-For"
LOOPBACK: Final[tuple[Network, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1"))
FULL: Final = 10.0  # s after which an address that holds all its sessions may try again
IPV6_CLIENT: Final = 64  # bits of an IPv6 address that tell clients apart
LONGEST: Final = 64  # characters of an address
MAX_HOPS: Final = 64  # of X-Forwarded-For that are looked at

LIMITS: Final = (
    "address_connections", "address_opening", "address_sessions", "session_frames", "user_acks", "user_connections",
    "user_entries", "user_frames", "user_reads",
)  # fmt: skip


class AddressLimits(msgspec.Struct, frozen=True):
    """What one client address may have in this gateway.

    `sessions` that are open, `opening` connections that nobody has proved a token for yet, and new `connections`; None:
    any. Whoever comes from a network of `exempt` is not counted. `proxies` are those whose X-Forwarded-For counts.
    """

    sessions: int = 2_000
    opening: int = 200
    connections: Limits | None = Limits(100, 2_000)
    exempt: tuple[Network, ...] = LOOPBACK
    proxies: tuple[Network, ...] = ()


class Overload(msgspec.Struct, frozen=True):
    """A limit that was reached, by its name in `LIMITS`; `wait` is in how many s it is worth trying again."""

    limit: str
    wait: float

    @property
    def text(self) -> str:
        """What the client is told."""
        whose, _, what = self.limit.partition("_")
        return f"too many {_TOLD[what]} {'from this address' if whose == 'address' else 'of this user'}"

    @property
    def retry_after(self) -> int:
        """The same as `wait` as a header says it."""
        return max(1, ceil(self.wait))


_TOLD: Final = {"connections": "new connections", "opening": "connections without a session", "sessions": "sessions"}


class Host(msgspec.Struct, gc=False, eq=False):
    """What one client address has. `parting` connections are too many, and stay for a moment to be told so.

    `uses` counts sessions, and connections that are opening or parting.
    """

    limits: AddressLimits
    connections: float = 0.0
    opening: int = 0
    parting: int = 0
    sessions: int = 0
    uses: int = 0

    def connect(self, now: float) -> float:
        """Count a connection; return 0, or in how many s it may be tried again."""
        limits = self.limits.connections
        if limits is None:
            return 0.0
        opened, wait = limits.spend(self.connections, now)
        if not wait:
            self.connections = opened
        return wait

    def spare(self, now: float) -> bool:
        """Tell whether there is nothing to remember."""
        return self.connections <= now


class Caller:
    """One connection, from its first moment to its last: what of the limits it takes up, to be given back."""

    __slots__ = ("_admission", "_opening", "_parting", "_proxied", "_seated", "address", "over")

    def __init__(self, admission: "Admission", address: str | None, *, proxied: bool = False) -> None:
        self._admission = admission
        self.address = address  # None: it is not counted
        self._proxied = proxied  # its request names the client
        self._opening = self._parting = self._seated = False
        self.over: Overload | None = None  # what its request is answered with

    @property
    def shut_out(self) -> bool:
        """Whether not even its request is waited for."""
        return self.over is not None and self.over.limit == "address_opening"

    @property
    def lingers(self) -> bool:
        """Whether it may stay for a moment to read why it is refused."""
        return self._parting or not self.shut_out

    def open(self, now: float) -> None:
        """Count the connection among those that are opening; where they are too many, `over` says so."""
        if self.address is None:
            return
        hosts = self._admission.hosts
        self.over = self._admission.knock(self.address, now)
        if not self.shut_out:
            hosts.hold(self.address).opening += 1
            self._opening = True
        elif hosts.of(self.address, now).parting < self._admission.most_opening:
            hosts.hold(self.address).parting += 1
            self._parting = True

    def opened(self, now: float) -> None:
        """Count it so no more: it has a session, or never will have one."""
        if self._opening and self.address is not None:
            self._opening = False
            self._admission.hosts.of(self.address, now).opening -= 1
            self._admission.hosts.let_go(self.address, now)

    def ask(self, headers: Mapping[str, str], now: float) -> Overload | None:
        """Judge a request by the client's address, before anything else is looked at."""
        admission = self._admission
        if self._proxied:
            self._proxied, self.address = False, admission.forwarded(headers)
            self.open(now)
        if self.over is None and self.address is not None:
            self.over = admission.room(self.address, now)
        return self.over

    def seat(self, user: str, now: float) -> Overload | None:
        """Count a session of a user whose token is good, or say which limit is in the way.

        The address is asked about again: many may have been let in while their tokens were looked at.
        """
        if self.address is not None and (over := self._admission.room(self.address, now)) is not None:
            return over
        if (over := self._admission.greet(user, now)) is not None:
            return over
        if self.address is not None and not self._seated:
            self._seated = True
            self._admission.hosts.hold(self.address).sessions += 1
        self.opened(now)
        return None

    @property
    def holds(self) -> bool:
        """Whether there is anything to give back."""
        return self._opening or self._parting or self._seated

    def leave(self, now: float) -> None:
        """Give everything back. Repeating it does nothing."""
        self.opened(now)
        if self._parting and self.address is not None:
            self._parting = False
            self._admission.hosts.of(self.address, now).parting -= 1
            self._admission.hosts.let_go(self.address, now)
        if self._seated and self.address is not None:
            self._seated = False
            self._admission.hosts.of(self.address, now).sessions -= 1
            self._admission.hosts.let_go(self.address, now)


class Admission:
    """What is known of addresses and users. `count` is told of each limit that was reached: its name, and by whom."""

    def __init__(
        self,
        limits: AddressLimits,
        quotas: Quotas = QUOTAS,
        count: Callable[[str, str], None] | None = None,
    ) -> None:
        self.hosts: Ledger[Host] = Ledger(lambda: Host(limits))
        self.users: Ledger[Allowance] = Ledger(lambda: Allowance(quotas))
        self._limits = limits
        self._count = count
        self._place = lru_cache(4_096)(self._placed)

    def arrive(self, peer: str | None, now: float) -> Caller:
        """Take note of a connection from `peer`, its address as the socket names it; None: there is none."""
        address, proxy = self._place(peer or "")
        if proxy or address is None:
            return Caller(self, None, proxied=proxy)
        caller = Caller(self, address)
        caller.open(now)
        return caller

    @property
    def most_opening(self) -> int:
        """How many connections of an address may be opening."""
        return self._limits.opening

    def knock(self, address: str, now: float) -> Overload | None:
        """Count a new connection of an address, unless too many of them are opening already."""
        if self.hosts.of(address, now).opening >= self._limits.opening:
            return self._reached("address_opening", address, 1.0)
        return self.connect(address, now)

    def connect(self, address: str, now: float) -> Overload | None:
        """Count a new connection of an address."""
        wait = self.hosts.of(address, now).connect(now)
        return self._reached("address_connections", address, wait) if wait else None

    def room(self, address: str, now: float) -> Overload | None:
        """Tell whether an address may have one more session."""
        full = self.hosts.of(address, now).sessions >= self._limits.sessions
        return self._reached("address_sessions", address, FULL) if full else None

    def greet(self, user: str, now: float) -> Overload | None:
        """Count a new connection of a user."""
        wait = self.users.of(user, now).connect(now)
        return self._reached("user_connections", user, wait) if wait else None

    def forget(self, now: float) -> None:
        """Let go of what says nothing any more."""
        self.hosts.forget(now)
        self.users.forget(now)

    def _reached(self, limit: str, whom: str, wait: float) -> Overload:
        if self._count is not None:
            self._count(limit, whom)
        return Overload(limit, wait)

    def forwarded(self, headers: Mapping[str, str]) -> str | None:
        """Return the address of the client behind a proxy: the last one that is no proxy's. None: it is not counted.

        What stands before it was said by the client itself. Nor is a client counted of which a proxy says nothing that
        can be read.
        """
        said = headers.get(FORWARDED, "")
        address: str | None = None
        for hop in reversed(said.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            address, proxy = self._place(_without_port(hop.strip())[:LONGEST])
            if not proxy:
                return address
        return address

    def _placed(self, name: str) -> tuple[str | None, bool]:
        """Return the name under which an address is counted, None: it is not; and whether it is a proxy's."""
        try:
            address = plain(ip_address(name.partition("%")[0]))
        except ValueError:
            return None, False
        proxy = any(address in network for network in self._limits.proxies)
        if any(address in network for network in self._limits.exempt):
            return None, proxy
        return client_of(address), proxy


def plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return an address, an IPv4 one where IPv6 only carries it."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def client_of(address: IPv4Address | IPv6Address) -> str:
    """Return what one client has: an IPv4 address, or a /64."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, IPV6_CLIENT), strict=False))


def _without_port(hop: str) -> str:
    """Return the address of a hop, which some proxies write as `1.2.3.4:5`, `[2001:db8::1]` or `[2001:db8::1]:5`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
