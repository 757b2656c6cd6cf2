"""Where Cassandra is, and a connection to it with the options that this project needs."""

import logging
import socket
import ssl
from typing import Any, Final

import msgspec
from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import DCAwareRoundRobinPolicy, ExponentialReconnectionPolicy, TokenAwarePolicy
from cassandra.query import tuple_factory

from schemas.addresses import host_port
from schemas.errors import SettingsError, StoreAway

CONNECT_TIMEOUT: Final = 5.0  # s
HEARTBEAT: Final = 5.0  # s of silence after which a connection is tried, and s until it counts as lost
RECONNECT: Final = (0.25, 1.0)  # s: the first and the longest pause between attempts to reach a node again
# Version 5 puts frames into segments with checksums, which the driver computes in Python: a fifth of what a row costs
# there. TCP and TLS have checksums of their own, and nothing else of version 5 is used.
PROTOCOL: Final = 4
SCHEMA_PROFILE: Final = "schema"
SCHEMA_TIMEOUT: Final = 30.0  # s for a change of the schema


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What a store's URL says.

    `tls` with `ca`, a file of authorities, empty: the system's.
    `dc` is the data centre that this process talks to, empty: that of the first host. `replication` counts copies of
    each row (in `dc`, if it is given) and matters only when the keyspace is made. `consistency` is a name of CQL's.
    """

    hosts: tuple[tuple[str, int], ...]
    keyspace: str
    user: str = ""
    password: str = ""
    tls: bool = False
    ca: str = ""
    dc: str = ""
    replication: int = 1
    consistency: str = "LOCAL_QUORUM"

    def __repr__(self) -> str:
        return f"Address({self.names()})"  # not the password

    def names(self) -> str:
        """Return the hosts for a message."""
        return ", ".join(host_port(host, port) for host, port in self.hosts)


def connect(address: Address) -> Any:
    """Return a session of the driver, without a keyspace. Blocks. Raises `StoreAway`."""
    # By default Cassandra answers each batch of many logs with a warning that it has many partitions. That is wanted:
    # they share a request, not a fate. The driver would log every one.
    logging.getLogger("cassandra.protocol").setLevel(logging.ERROR)
    cluster = Cluster(
        contact_points=list(address.hosts),
        port=address.hosts[0][1],
        protocol_version=PROTOCOL,
        auth_provider=PlainTextAuthProvider(address.user, address.password) if address.user else None,
        ssl_context=_context(address),
        execution_profiles=_profiles(address),
        reconnection_policy=reconnection(),
        # the driver leaves Nagle's algorithm on, which turns a 2 ms batch into a 44 ms one
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        compression=False,
        connect_timeout=CONNECT_TIMEOUT,
        control_connection_timeout=CONNECT_TIMEOUT,
        idle_heartbeat_interval=HEARTBEAT,
        idle_heartbeat_timeout=HEARTBEAT,
    )
    try:
        session = cluster.connect()
    except (NoHostAvailable, OSError) as exc:
        cluster.shutdown()
        raise StoreAway(f"Cassandra cannot be reached at {address.names()}: {_cause(exc)}") from exc
    session.use_client_timestamp = False  # every write that needs a timestamp names its own
    return session


def reconnection() -> ExponentialReconnectionPolicy:
    """Return how often a node that is away is tried: for ever. By default the driver gives up after 64 attempts."""
    return ExponentialReconnectionPolicy(*RECONNECT, max_attempts=None)


def _context(address: Address) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    try:
        return ssl.create_default_context(cafile=address.ca or None)  # it checks names, too
    except (ssl.SSLError, OSError):
        raise SettingsError(f"TOCSIN_STORE_CA: {address.ca} is not a certificate in PEM") from None


def _profiles(address: Address) -> dict[str, Any]:
    def profile(timeout: float | None) -> Any:
        return ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(address.dc or None)),
            consistency_level=ConsistencyLevel.name_to_value[address.consistency],
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
            request_timeout=timeout,
            row_factory=tuple_factory,
        )

    # no timer a request: a deadline a call stands around it (store.requests)
    return {EXEC_PROFILE_DEFAULT: profile(None), SCHEMA_PROFILE: profile(SCHEMA_TIMEOUT)}


def _cause(exc: Exception) -> str:
    if isinstance(exc, NoHostAvailable) and exc.errors:
        return str(next(iter(exc.errors.values())))
    return str(exc)
