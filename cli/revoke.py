"""`tocsin revoke`: writes down for good that tokens count no more; every gateway follows it."""

import asyncio
import math
import time

import jwt
import msgspec

from cli.kafka import producer, require_topic
from cli.outputs import Revoked, time_of
from cli.terminal import say, show
from gateway.auth import token_name
from gateway.claims import REMEMBERED
from schemas.errors import BadToken, SettingsError
from schemas.records import Revocation, encode
from streams.settings import Settings


class _Claims(msgspec.Struct):
    exp: float
    jti: str | None = None


def revocation_of(token: str, now: float) -> Revocation:
    """Return the revocation of one token. Raises `BadToken` for what is none."""
    try:
        # The signature does not matter: to revoke what is no token of ours does no harm.
        payload = jwt.PyJWS().decode(token, options={"verify_signature": False})
        claims = msgspec.json.decode(payload, type=_Claims)
    except (jwt.InvalidTokenError, UnicodeError, RecursionError, msgspec.MsgspecError):
        raise BadToken("--token is not a JWT with `exp`, so there is nothing to revoke") from None
    if claims.exp <= now:
        raise BadToken("the token has expired, so there is nothing to revoke")
    return Revocation(at=now, until=claims.exp, token=claims.jti or token_name(token))


async def _until_the_next_second(at: float) -> None:
    """Wait until the second of a revocation is over.

    Most libraries write whole seconds into `iat`. So a token of that second may be older than the revocation, and is
    refused. One that is made after the command has ended is of a later second, and good.
    """
    await asyncio.sleep(min(1.0, max(0.0, math.floor(at) + 1 - time.time())))


async def revoke(settings: Settings, user: str | None, token: str | None, *, as_json: bool) -> int:
    """Write one revocation and print it once Kafka has it; return 0.

    Raises `SettingsError`, `BadToken`, `Unreachable` or `Refused`.
    """
    now = time.time()
    if (user is None) == (token is None):
        raise SettingsError("name a user, or a token with --token; not both")
    record = revocation_of(token, now) if token else Revocation(at=now, until=now + REMEMBERED, user=user)
    topic = f"{settings.prefix}revocations"
    await require_topic(settings, topic)
    async with producer(settings.kafka_options(), idempotent=settings.idempotence) as kafka:
        await kafka.send_and_wait(topic, encode(record), record.key)
    if record.token is None:
        await _until_the_next_second(record.at)
    if as_json:
        show(Revoked(time_of(record.at * 1000), time_of(record.until * 1000), record.user, record.token))
    elif record.token is None:
        say(f"revoked: every token that {user} was given until now; gateways end its sessions within 2 s")
    else:
        say(f"revoked: token {record.token}; gateways end its sessions within 2 s")
    return 0
