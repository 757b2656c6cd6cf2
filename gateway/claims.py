"""What a token says, and the rules by which it counts. Pure; signatures are `gateway.auth`'s."""

import re
from typing import Annotated, Final

import msgspec

from schemas.errors import BadToken
from schemas.records import DeviceId, UserId

LEEWAY: Final = 5.0  # s that clocks may differ
REMEMBERED: Final = 366 * 86_400.0  # s; what is revoked is remembered so long, so no token may live longer
_REQUIRED: Final = re.compile(r"missing required field `(\w+)`")
_AT: Final = re.compile(r"at `\$\.(\w+)")

Time = Annotated[float, msgspec.Meta(ge=0, lt=1e11)]  # s since 1970


class Payload(msgspec.Struct):
    """The claims that count. JSON with half of a surrogate pair is refused by the decoder."""

    sub: UserId
    exp: Annotated[float, msgspec.Meta(gt=0, lt=1e11)]
    device: DeviceId | None = None
    iat: Time | None = None
    nbf: Time = 0.0
    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    iss: str | None = None
    aud: str | list[str] | None = None


class Rules(msgspec.Struct, frozen=True):
    """What a deployment demands: one of these audiences and issuers (empty: none), and a life of `life` s at most."""

    audience: tuple[str, ...] = ()
    issuer: tuple[str, ...] = ()
    life: float = 86_400.0


_payload: Final = msgspec.json.Decoder(Payload)


def decode(data: bytes) -> Payload:
    """Return what a token says. Raises `BadToken`, which names the claim that is missing or wrong."""
    try:
        return _payload.decode(data)
    except msgspec.ValidationError as exc:
        if found := _REQUIRED.search(str(exc)):
            raise BadToken(f"the token lacks the claim `{found[1]}`") from None
        if found := _AT.search(str(exc)):
            raise BadToken(f"the claim `{found[1]}` of the token has the wrong type or size") from None
        raise BadToken("the token is malformed") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadToken("the token is malformed") from None


def time_left(payload: Payload, rules: Rules, now: float) -> float:
    """Return how long a token still counts, in s with `LEEWAY`. Raises `BadToken`, which names the claim."""
    left = payload.exp + LEEWAY - now
    if left <= 0:
        raise BadToken("the token has expired (`exp`)")
    if payload.nbf > now + LEEWAY:
        raise BadToken("the token is not valid yet (`nbf`)")
    issued = payload.iat
    if issued is not None and issued > now + LEEWAY:  # it would outlive a revocation
        raise BadToken("the token is not valid yet (`iat`)")
    if payload.exp - (now if issued is None else issued) > rules.life + LEEWAY:
        raise BadToken(f"the token lives longer than {rules.life:g} s (`exp`)")
    _check_parties(payload, rules)
    return left


def _check_parties(payload: Payload, rules: Rules) -> None:
    if rules.issuer and payload.iss not in rules.issuer:
        raise BadToken("the token lacks the claim `iss`" if payload.iss is None else "the token has another `iss`")
    if rules.audience:
        named = [payload.aud] if isinstance(payload.aud, str) else payload.aud or []
        if not any(one in rules.audience for one in named):
            raise BadToken("the token has another `aud`" if named else "the token lacks the claim `aud`")
    elif payload.aud:
        raise BadToken("the token has an `aud`, and none is expected here")
