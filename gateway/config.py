"""What a gateway is told when it starts."""

from collections.abc import Mapping
from secrets import token_hex
from ssl import SSLContext
from typing import Any

import msgspec

from gateway.admission import AddressLimits
from gateway.allowance import QUOTAS, Quotas
from gateway.bucket import Limits
from gateway.claims import Rules
from gateway.reloading import Certificate


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds; `id` names this process and this boot of it; `kafka` is what a Kafka client is made with."""

    id: str
    kafka: Mapping[str, Any]
    redis: str
    secret: str = ""  # of HS256; empty: there is none
    key_files: tuple[str, ...] = ()  # files and folders of further keys of tokens
    jwks: str = ""  # the address that publishes more of them
    jwks_tls: SSLContext | None = None  # what checks that address; None: the system's authorities
    rules: Rules = Rules()
    prefix: str = ""
    idempotence: bool = True
    host: str = "127.0.0.1"
    port: int = 8080
    url: str = ""
    tls: Certificate | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    origins: str = ""
    heartbeat: float = 25.0
    idle: float = 30.0
    sessions: int = 18_000
    drain: float = 10.0
    stuck: float = 60.0
    addresses: AddressLimits = AddressLimits()
    quotas: Quotas = QUOTAS
    pace: Limits | None = None  # how many entries of `inbox/bulk` a session is sent

    @property
    def revocations(self) -> str:
        """The topic that says which tokens count no more."""
        return f"{self.prefix}revocations"

    @property
    def topic(self) -> str:
        """The topic that gateways write about sessions."""
        return f"{self.prefix}connections"

    @property
    def acks(self) -> str:
        """The topic that gateways write acknowledgements to."""
        return f"{self.prefix}acks"

    def __repr__(self) -> str:
        return f"GatewayConfig(id={self.id!r})"  # not the secret, not the passwords


def gateway_id(name: str) -> str:
    """Return the id of a gateway process: its name and a new incarnation."""
    return f"{name or 'gateway'}-{token_hex(5)}"
