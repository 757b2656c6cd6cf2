"""The process `tocsin gateway`: settings in, a running gateway out."""

import uvloop

from cli.reach import require_entry
from gateway.admission import AddressLimits
from gateway.allowance import Quotas
from gateway.app import serve
from gateway.bucket import Limits
from gateway.config import GatewayConfig, gateway_id
from schemas.addresses import bare
from schemas.errors import SettingsError
from streams.limits import Limit
from streams.security import server_context
from streams.settings import Settings
from telemetry.logs import setup_logging


def gateway_config(settings: Settings) -> GatewayConfig:
    """Return what the gateway needs of the settings. Raises `SettingsError` if there is no secret."""
    if settings.secret is None:
        raise SettingsError("TOCSIN_SECRET is needed: the key that signs the tokens, at least 32 characters")
    if settings.idle <= settings.heartbeat:
        raise SettingsError("TOCSIN_IDLE must be longer than TOCSIN_HEARTBEAT, or every session would end")
    return GatewayConfig(
        id=gateway_id(settings.instance),
        kafka=settings.kafka_options(),
        redis=settings.redis_url(),
        secret=settings.secret,
        prefix=settings.prefix,
        idempotence=settings.idempotence,
        host=bare(settings.host),
        port=settings.port,
        url=settings.url,
        tls=server_context(settings.tls_cert, settings.tls_key) if settings.tls_cert else None,
        metrics_host=settings.metrics_host,
        metrics_port=settings.metrics_port,
        origins=settings.origins,
        heartbeat=settings.heartbeat,
        idle=settings.idle,
        sessions=settings.sessions,
        drain=settings.drain,
        stuck=settings.stuck,
        addresses=AddressLimits(
            sessions=settings.address_sessions,
            opening=settings.address_opening,
            connections=_limits(settings.limit("address")),
            exempt=settings.networks("limit_exempt"),
            proxies=settings.networks("proxies"),
        ),
        quotas=Quotas(
            connections=_limits(settings.limit("user")),
            frames=_limits(settings.limit("frames")),
            entries=_limits(settings.limit("sync")),
            reads=_limits(settings.limit("reads")),
        ),
        pace=_limits(settings.limit("connection")),
    )


def _limits(limit: Limit | None) -> Limits | None:
    return Limits(rate=limit.count / limit.window * 1e6, burst=float(limit.count)) if limit else None


def run_gateway(settings: Settings) -> None:
    """Run a gateway until it is told to stop; it drains then."""
    config = gateway_config(settings)
    setup_logging(settings.log_level, "gateway")
    uvloop.run(require_entry(settings))
    uvloop.run(serve(config))
