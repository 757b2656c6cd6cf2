"""Why a server that answers does not let us in: a wrong password, a certificate that is not good, no TLS.

Clients that reconnect by themselves take these for a server that is away, and would try for ever. So a process asks
once before it begins. A server that is away is none of this module's business: for that, clients wait.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

import redis.asyncio
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from schemas.addresses import host_port
from schemas.errors import TocsinError
from streams.settings import Settings

WITHIN: Final = 5.0  # s
_AUTH: Final = (AuthenticationFailedError, SaslAuthenticationFailed)
_SASL: Final = (AuthenticationMethodNotSupported, IllegalSaslStateError, UnsupportedSaslMechanismError)


async def require_entry(settings: Settings) -> None:
    """Return unless Kafka or Redis answer and refuse us. Raises `TocsinError`, one line that names the settings."""
    for reason in await asyncio.gather(refusal(settings.kafka_options()), redis_refusal(settings.redis_url())):
        if reason:
            raise TocsinError(reason)


async def refusal(kafka: Mapping[str, Any], *, closing: bool = False) -> str | None:
    """Return why the first broker that answers refuses us; None if one lets us in, or none answers.

    `closing`: to end the connection without a word counts as well. A broker does that where it expects TLS and gets
    none, but also while it starts.
    """
    options = {name: value for name, value in kafka.items() if name != "bootstrap_servers"}
    for host, port, _ in collect_hosts(kafka["bootstrap_servers"], randomize=False):
        try:
            async with asyncio.timeout(WITHIN):
                connection = await create_conn(host, port, request_timeout_ms=int(WITHIN * 1000), **options)
        except (OSError, KafkaError, TimeoutError) as exc:
            reason = _why(exc)
            if reason is None and closing and isinstance(exc, KafkaConnectionError):
                reason = f"ends the connection at once; does it want {_way(kafka)} (TOCSIN_KAFKA_SECURITY)?"
            if reason:
                return f"Kafka at {host_port(host, port)} {reason}"
        else:
            connection.close()
            return None
    return None


def _way(kafka: Mapping[str, Any]) -> str:
    return "TLS" if kafka.get("security_protocol", "PLAINTEXT").endswith("PLAINTEXT") else "no TLS"


def _why(exc: BaseException) -> str | None:
    if isinstance(exc, _AUTH):
        return "refuses the user or the password (TOCSIN_KAFKA_USER, TOCSIN_KAFKA_PASSWORD, TOCSIN_KAFKA_SASL)"
    if isinstance(exc, _SASL):
        return "does not take this way to log in (TOCSIN_KAFKA_SECURITY, TOCSIN_KAFKA_SASL)"
    return _tls(exc, "TOCSIN_KAFKA_CA", "TOCSIN_KAFKA_SECURITY")


def _tls(exc: BaseException | None, authority: str, switch: str) -> str | None:
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return f"has a certificate that is not good: {exc.verify_message} ({authority})"
        if isinstance(exc, ssl.SSLError):
            return f"does not speak TLS as we do: {exc.reason or 'handshake failed'} ({switch})"
        exc = exc.__cause__ or exc.__context__
    return None


async def redis_refusal(url: str) -> str | None:
    """Return why Redis refuses us; None if it lets us in or does not answer."""
    client: Any = redis.asyncio.Redis.from_url(url, socket_timeout=WITHIN, socket_connect_timeout=WITHIN)
    try:
        await client.ping()
    except (AuthenticationError, AuthorizationError, ResponseError):
        return "Redis refuses the user or the password (TOCSIN_REDIS, TOCSIN_REDIS_PASSWORD)"
    except (RedisError, OSError, TimeoutError) as exc:
        reason = _tls(exc, "TOCSIN_REDIS_CA", "TOCSIN_REDIS")
        return f"Redis {reason}" if reason else None
    finally:
        await client.aclose()
    return None
