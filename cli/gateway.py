"""The process `tocsin gateway`: settings in, a running gateway out."""

import uvloop

from gateway.app import serve
from gateway.config import GatewayConfig, gateway_id
from schemas.errors import SettingsError
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
        kafka=settings.kafka,
        redis=settings.redis,
        secret=settings.secret,
        prefix=settings.prefix,
        idempotence=settings.idempotence,
        host=settings.host,
        port=settings.port,
        url=settings.url,
        metrics_port=settings.metrics_port,
        origins=settings.origins,
        heartbeat=settings.heartbeat,
        idle=settings.idle,
        sessions=settings.sessions,
        drain=settings.drain,
    )


def run_gateway(settings: Settings) -> None:
    """Run a gateway until it is told to stop; it drains then."""
    config = gateway_config(settings)
    setup_logging(settings.log_level, "gateway")
    uvloop.run(serve(config))
