"""What a gateway is told when it starts."""

from secrets import token_hex

import msgspec


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds; `id` names this process and this boot of it."""

    id: str
    kafka: str
    redis: str
    secret: str
    prefix: str = ""
    idempotence: bool = True
    host: str = "127.0.0.1"
    port: int = 8080
    url: str = ""
    metrics_port: int = 0
    origins: str = ""
    heartbeat: float = 25.0
    idle: float = 30.0
    sessions: int = 18_000
    drain: float = 10.0

    @property
    def topic(self) -> str:
        """The topic that gateways write."""
        return f"{self.prefix}connections"


def gateway_id(name: str) -> str:
    """Return the id of a gateway process: its name and a new incarnation."""
    return f"{name or 'gateway'}-{token_hex(5)}"
