"""Frames on the socket: one JSON object with `type`; what a client says and what the server says."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from schemas.errors import BadFrame
from schemas.records import DeviceId, Notification, Seq

MAX_FRAME: Final = 64 * 1024  # bytes of a client's frame
MAX_SYNC: Final = 1_000  # entries that one `sync` brings at most
MAX_CURSORS: Final = 1_000  # logs of which a `hello` may say what the device has
MAX_CLIENT: Final = 256  # characters of `client`; what is longer is cut

LogName = Annotated[str, Meta(min_length=1, max_length=256, description="such as inbox/normal")]

ERROR_CODES: Final = (
    "bad_json", "unknown_type", "bad_request", "unauthorized", "forbidden", "conflict",
    "too_large", "rate_limited", "busy", "expired", "internal",
)  # fmt: skip


class Client(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A frame of a client; `id` comes back as `ref` in an error."""

    id: str | int | None = None


class Hello(Client, frozen=True, kw_only=True, tag="hello"):
    """Who the device is and what it has; the first frame, awaited where the URL says `hello=1`."""

    device: DeviceId | None = None
    epoch: Annotated[str, Meta(max_length=256)] | None = None
    cursors: Annotated[dict[LogName, Seq], Meta(max_length=MAX_CURSORS)] | None = None
    client: Annotated[str, Meta(description=f"cut after {MAX_CLIENT} characters")] | None = None
    token: str | None = None


class AckFrame(Client, frozen=True, kw_only=True, tag="ack"):
    """The device has everything of `log` up to `seq`."""

    log: LogName
    seq: Seq


class ReadFrame(Client, frozen=True, kw_only=True, tag="read"):
    """The user has read everything of `log` up to `seq`."""

    log: LogName
    seq: Seq


class SyncFrame(Client, frozen=True, kw_only=True, tag="sync"):
    """Send what comes after `after` in `log`."""

    log: LogName
    after: Seq
    limit: Annotated[int, Meta(ge=1, le=MAX_SYNC)] = MAX_SYNC


class Refresh(Client, frozen=True, kw_only=True, tag="refresh"):
    """A new token for the same user."""

    token: str


class Ping(Client, frozen=True, kw_only=True, tag="ping"):
    """Answered by `pong`."""


ClientFrame = Hello | AckFrame | ReadFrame | SyncFrame | Refresh | Ping

_CLIENT_TYPES: Final = frozenset(("hello", "ack", "read", "sync", "refresh", "ping"))


class _Type(msgspec.Struct):
    type: Any = None
    id: Any = None
    client_id: Any = None


class _Claimed(msgspec.Struct):
    token: str | None = None


_frame: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)
_type = msgspec.json.Decoder(_Type)
_claimed = msgspec.json.Decoder(_Claimed)
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def decode_client_frame(data: bytes) -> ClientFrame:
    """Decode what a client says.

    Raises `BadFrame` with code `bad_json`, `unknown_type` or `bad_request`, and the frame's id where it had one.
    """
    try:
        return _frame.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise _why(data, exc) from None


def _why(data: bytes, exc: Exception) -> BadFrame:
    try:
        seen = _type.decode(data)
    except msgspec.ValidationError:
        return BadFrame("bad_request", "a frame is a JSON object")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return BadFrame("bad_json", "the frame is not JSON")
    ref = next((str(r) for r in (seen.client_id, seen.id) if isinstance(r, str | int)), None)
    if not isinstance(seen.type, str):
        return BadFrame("bad_request", "a frame needs a `type`", ref)
    if seen.type not in _CLIENT_TYPES:
        return BadFrame("unknown_type", f"no frame has the type {seen.type[:64]!r}", ref)
    return BadFrame("bad_request", str(exc), ref, seen.type)


def token_of(data: bytes) -> str | None:
    """Return the token of a `hello` whatever is wrong with its other fields, None if it has none."""
    try:
        return _claimed.decode(data).token
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Welcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="welcome"):
    """The session is open; `heads`, `cursors` and `unread` are by log, `heartbeat` is in seconds.

    `cursors` is where the session starts in each log: what comes next lies after it. `expires_in` is how many seconds
    later the session ends with its token.
    """

    session: str
    user: str
    device: str
    epoch: str
    heads: dict[str, int]
    cursors: dict[str, int]
    unread: dict[str, int]
    heartbeat: float
    gateway: str
    expires_in: float = 0.0


class NotificationFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="notification", gc=False):
    """An entry of an inbox; `n` counts the countable entries of the log up to this one."""

    log: str
    seq: int
    id: str
    lane: str
    kind: str
    created_at: str
    n: int
    title: str | None = None
    body: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    expires_at: datetime | None = None
    collapse_key: str | None = None
    replayed: bool = False


class Synced(msgspec.Struct, frozen=True, kw_only=True, tag="synced"):
    """The client has everything of `log` up to `head`."""

    log: str
    head: int


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """Entries `from` to `to` exist and were not sent; `sync` brings them."""

    log: str
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")


class Skip(msgspec.Struct, frozen=True, kw_only=True, tag="skip"):
    """There is nothing for this device from `from` to `to`."""

    log: str
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    reason: str


class TooLong(msgspec.Struct, frozen=True, kw_only=True, tag="too_long"):
    """More than the server sends unasked lies behind `head`; delivery goes on after it."""

    log: str
    head: int


class Reset(msgspec.Struct, frozen=True, kw_only=True, tag="reset"):
    """The cursor was of another epoch of the store, or beyond the head; it is void."""

    log: str
    head: int


class Reconnect(msgspec.Struct, frozen=True, kw_only=True, tag="reconnect"):
    """Come back after `after` ms."""

    after: int
    to: str | None = None


class TokenExpiring(msgspec.Struct, frozen=True, kw_only=True, tag="token_expiring"):
    """The session ends with its token in `expires_in` seconds, unless `refresh` brings a new one."""

    expires_in: float


class ErrorFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="error"):
    """What the client said was refused."""

    code: str
    message: str
    ref: str | None = None


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag="pong"):
    """The answer to `ping`."""


ServerFrame = (
    Welcome | NotificationFrame | Synced | Gap | Skip | TooLong | Reset | Reconnect | TokenExpiring | ErrorFrame | Pong
)


@lru_cache(256)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(256)  # Kafka gives the records of a batch one time
def rfc3339(ms: int) -> str:
    """Return milliseconds since 1970 as RFC 3339 in UTC, with milliseconds."""
    return f"{_to_the_second(ms // 1000)}.{ms % 1000:03d}Z"


def notification_frame(record: Notification, *, log: str, seq: int, n: int, id_: str, ts_ms: int) -> bytes:
    """Return the frame of an entry, the bytes that the store keeps and every device is sent."""
    return encode(
        NotificationFrame(
            log=log,
            seq=seq,
            id=id_,
            lane=log.removeprefix("inbox/"),
            kind=record.kind,
            created_at=rfc3339(ts_ms),
            n=n,
            title=record.title,
            body=record.body,
            data=record.data,
            expires_at=record.expires_at,
            collapse_key=record.collapse_key,
            replayed=record.replayed,
        )
    )
