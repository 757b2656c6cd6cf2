"""The process `tocsin gateway`: settings in, a running gateway out."""

from functools import partial

import uvloop

from cli.reach import require_entry
from gateway.admission import AddressLimits
from gateway.allowance import Quotas
from gateway.app import serve
from gateway.bucket import Limits
from gateway.claims import Rules
from gateway.config import GatewayConfig, gateway_id
from gateway.jwks import check_address
from gateway.keys import given_keys
from gateway.origins import Origins
from gateway.reloading import Certificate
from schemas.addresses import bare
from schemas.errors import SettingsError
from streams.limits import Limit
from streams.security import client_context, server_context
from streams.settings import Settings
from telemetry.logs import setup_logging


def gateway_config(settings: Settings) -> GatewayConfig:
    """Return what the gateway needs of the settings. Raises `SettingsError` if there is no key for tokens."""
    if not (settings.secret or settings.keys or settings.jwks):
        raise SettingsError("TOCSIN_SECRET, TOCSIN_KEYS or TOCSIN_JWKS is needed: the key that tokens are signed with")
    if settings.idle <= settings.heartbeat:
        raise SettingsError("TOCSIN_IDLE must be longer than TOCSIN_HEARTBEAT, or every session would end")
    check_entry(settings)
    return GatewayConfig(
        id=gateway_id(settings.instance),
        kafka=settings.kafka_options(),
        redis=settings.redis_url(),
        secret=settings.secret or "",
        key_files=settings.listed("keys"),
        jwks=settings.jwks,
        jwks_tls=client_context("TOCSIN_JWKS", settings.jwks_ca) if settings.jwks else None,
        rules=rules_of(settings),
        prefix=settings.prefix,
        idempotence=settings.idempotence,
        host=bare(settings.host),
        port=settings.port,
        url=settings.url,
        tls=_certificate(settings),
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


def check_entry(settings: Settings) -> None:
    """Raise `SettingsError` for keys, an address or origins that nobody could come in by."""
    given_keys(settings.secret or "", settings.listed("keys"))
    if settings.jwks:
        check_address(settings.jwks)
    Origins(settings.origins)


def rules_of(settings: Settings) -> Rules:
    """Return what the settings demand of a token."""
    return Rules(settings.listed("audience"), settings.listed("issuer"), settings.token_life)


def _certificate(settings: Settings) -> Certificate | None:
    if not settings.tls_cert:
        return None
    files = settings.tls_cert, settings.tls_key
    return Certificate(partial(server_context, *files), files)


def _limits(limit: Limit | None) -> Limits | None:
    return Limits(rate=limit.count / limit.window * 1e6, burst=float(limit.count)) if limit else None


def run_gateway(settings: Settings) -> None:
    """Run a gateway until it is told to stop; it drains then."""
    config = gateway_config(settings)
    setup_logging(settings.log_level, "gateway")
    uvloop.run(require_entry(settings))
    uvloop.run(serve(config))
