"""Records on Kafka: what producers write (`notifications.*`), what gateways write (`connections`) and what we write.

Every record is JSON in UTF-8. Unknown fields are ignored, so that a newer writer does not stop an older reader; `v` is
the version of the shape. Times are RFC 3339 (UTC), sizes are bytes.
"""

import json
import re
from datetime import datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, cast

import msgspec
from msgspec import Meta

from schemas.errors import BadRecord
from schemas.limits import MAX_CONTROL_VALUE, MAX_ID, MAX_USER, MAX_VALUE

_T = TypeVar("_T")

MAX_PAGE: Final = 10_000  # entries that a session asks for at once; no client and no gateway of ours asks for so many

UserId = Annotated[str, Meta(min_length=1, max_length=MAX_USER, description="the user's id, also the record's key")]
MAX_DEVICE: Final = 64  # characters of a device's id
_DEVICE: Final = r"^[A-Za-z0-9._:-]{%d,64}(?!\n)$"  # `$` alone would take a line feed at the end
DeviceId = Annotated[str, Meta(pattern=_DEVICE % 1, description="a device of the user")]
SessionDevice = Annotated[str, Meta(pattern=_DEVICE % 0, description="the session's device; empty: it named none")]
SessionId = Annotated[str, Meta(min_length=1, max_length=300, description="a session, named by its gateway")]
GatewayId = Annotated[str, Meta(min_length=1, max_length=256, description="a gateway process")]
MAX_SEQ: Final = 2**53 - 1  # what JSON holds exactly everywhere; beyond 2**63 stores and the bus would not take it
Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ, description="position in a log; the first entry is 1, 0 stands before it")]

# Why a record became a dead letter; written to the header `tocsin-reason`.
REASONS: Final = {
    "not_json": "the value is not JSON in UTF-8",
    "bad_request": "a field is missing or has the wrong type",
    "key_mismatch": "the record's key is not the user",
    "too_large": "the value is over 64 KiB, or something is over the limits of a record",
    "conflict": "the id was used before with other content",
    "rule_failed": "the rule raised an exception",
    "unreadable": "the record, or the batch in which it came, cannot be unpacked",
    "refused": "Kafka or the store will not take the record, or what follows from it, as it is",
}


class Notification(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A notification for one user, in a topic `notifications.{lane}`; at least one of title, body, data is given."""

    user: UserId
    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID)] | int | None = None
    kind: Annotated[str, Meta(max_length=128)] = ""
    title: Annotated[str, Meta(max_length=1024)] | None = None
    body: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    device: DeviceId | None = None
    expires_at: datetime | None = None
    collapse_key: Annotated[str, Meta(max_length=256)] | None = None
    channels: list[str] | None = None
    replayed: bool = False
    v: Literal[1] = 1


class Connected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="connected"):
    """A session has opened; the worker answers with an `Opening` on the bus."""

    user: UserId
    session: SessionId
    gateway: GatewayId
    device: SessionDevice
    transport: str = "ws"
    epoch: str | None = None  # the store's epoch that the cursors belong to
    cursors: dict[str, Seq] | None = None  # {log: last seq the device has}; None: the stored ones
    v: Literal[1] = 1


class Disconnected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="disconnected"):
    """A session has ended."""

    user: UserId
    session: SessionId
    gateway: GatewayId
    v: Literal[1] = 1


class Ack(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a device has of a log: everything up to `delivered`, read up to `read`.

    Acks are many, so the characters of `device` are looked at where a watermark is new (`is_device`), not in each.
    """

    user: UserId
    device: Annotated[str, Meta(max_length=MAX_DEVICE, description="a device of the user; empty: it named none")]
    log: str
    delivered: Seq
    read: Seq


class Acks(msgspec.Struct, frozen=True, kw_only=True, tag="acks"):
    """Cumulative acknowledgements of many users of one partition."""

    gateway: GatewayId
    acks: list[Ack]
    v: Literal[1] = 1


class SyncRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session wants the entries of a log after `after`, at most `limit`; `asked` says that its client said so."""

    user: UserId
    session: SessionId
    device: SessionDevice
    log: str
    after: Seq
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)]
    asked: bool = False


class Sync(msgspec.Struct, frozen=True, kw_only=True, tag="sync"):
    """Requests of many users of one partition for what their sessions lack."""

    gateway: GatewayId
    syncs: list[SyncRequest]
    v: Literal[1] = 1


class OpenSession(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session that is open, with the last seq it has been handed in each log."""

    user: UserId
    session: SessionId
    device: SessionDevice
    transport: str
    cursors: dict[str, Seq]


class Announce(msgspec.Struct, frozen=True, kw_only=True, tag="announce"):
    """The sessions that a gateway holds of one partition, said again to the partition's new owner."""

    gateway: GatewayId
    partition: int
    epoch: int
    sessions: list[OpenSession]
    v: Literal[1] = 1


Connection = Connected | Disconnected | Acks | Sync | Announce


class Revocation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens that count no more: all that a user was given up to `at`, or one token.

    `at` and `until` are s since 1970. From `until` on it may be forgotten: what it concerns has expired by then.
    """

    at: Annotated[float, Meta(ge=0, description="when it was revoked, s since 1970")]
    until: Annotated[float, Meta(ge=0, description="when every token that it concerns has expired, s since 1970")]
    user: UserId | None = None
    token: Annotated[str, Meta(min_length=1, max_length=256, description="`jti` of a token, or its hash")] | None = None
    v: Literal[1] = 1

    @property
    def key(self) -> bytes:
        """The record's key: a later revocation of the same user or token takes its place."""
        return f"user:{self.user}".encode() if self.token is None else f"token:{self.token}".encode()


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a notification on one channel, and why."""

    id: str
    user: str
    channel: str
    state: str
    reason: str
    at: datetime
    attempt: int = 0
    v: Literal[1] = 1


_notification = msgspec.json.Decoder(Notification)
_revocation = msgspec.json.Decoder(Revocation)
_connection: msgspec.json.Decoder[Connection] = msgspec.json.Decoder(Connection)
_acks = msgspec.json.Decoder(Acks)
_ITEMS: Final[dict[str, tuple[str, msgspec.json.Decoder[Any]]]] = {
    "acks": ("acks", msgspec.json.Decoder(Ack)),
    "sync": ("syncs", msgspec.json.Decoder(SyncRequest)),
    "announce": ("sessions", msgspec.json.Decoder(OpenSession)),
}
_is_device = re.compile(_DEVICE % 1).match
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def _decoded(decoder: msgspec.json.Decoder[_T], value: bytes) -> _T:
    try:
        if not value.isascii():
            value.decode()  # what is passed on as it came (`data`) is not looked at by the decoder
        return decoder.decode(value)
    except msgspec.ValidationError as exc:
        raise BadRecord("bad_request", str(exc)) from None
    except RecursionError:
        raise BadRecord("bad_request", "the value is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRecord("not_json", str(exc)) from None


def decode_notification(key: bytes | None, value: bytes | None) -> Notification:
    """Decode and check the record of a producer.

    Raises `BadRecord` with a code of `REASONS`.
    """
    if value is None:
        raise BadRecord("bad_request", "the record has no value")
    if len(value) > MAX_VALUE:
        raise BadRecord("too_large", f"the value has {len(value)} bytes, at most {MAX_VALUE} are taken")
    record = _decoded(_notification, value)
    if key != record.user.encode():
        raise BadRecord("key_mismatch", "the record's key must equal `user`")
    data = b"" if record.data is msgspec.UNSET else bytes(record.data)
    if data and not data.startswith((b"{", b"null")):
        raise BadRecord("bad_request", "Expected `object | null` - at `$.data`")
    if type(record.id) is int and len(str(record.id)) > MAX_ID:
        raise BadRecord("bad_request", f"`id` has more than {MAX_ID} digits")
    if not (record.title or record.body or data.startswith(b"{")):
        raise BadRecord("bad_request", "one of `title`, `body` and `data` is needed")
    if record.expires_at is not None and record.expires_at.tzinfo is None:
        raise BadRecord("bad_request", "`expires_at` needs a time zone, such as Z")
    return record


def is_device(device: str) -> bool:
    """Say whether a text is the id of a device."""
    return _is_device(device) is not None


class Sifted(msgspec.Struct, Generic[_T], frozen=True):
    """A record of a gateway without the items that are bad: `wrong` says what is wrong with each of those."""

    record: _T
    wrong: list[str]


def decode_connection(value: bytes | None) -> Connection:
    """Decode a record of `connections`. Raises `BadRecord`."""
    return _decoded(_connection, _control(value))


def decode_acks(value: bytes | None) -> Acks:
    """Decode a record of `acks`. Raises `BadRecord`."""
    return _decoded(_acks, _control(value))


def sifted_connection(value: bytes | None) -> Sifted[Connection]:
    """Decode a record of `connections`; of one that packs items, bad ones are left out. Raises `BadRecord`."""
    try:
        return Sifted(decode_connection(value), [])
    except BadRecord as exc:
        return _sifted(_connection, value, exc)


def sifted_acks(value: bytes | None) -> Sifted[Acks]:
    """Decode a record of `acks`; bad items are left out. Raises `BadRecord`."""
    try:
        return Sifted(decode_acks(value), [])
    except BadRecord as exc:
        return _sifted(_acks, value, exc)


def _control(value: bytes | None) -> bytes:
    if value is None or len(value) > MAX_CONTROL_VALUE:
        raise BadRecord("bad_request", "the record has no value or is over 1 MiB")
    return value


def _sifted(decoder: msgspec.json.Decoder[_T], value: bytes | None, refusal: BadRecord) -> Sifted[_T]:
    """Return a record with those of its items that can be decoded. Raises the refusal if its items are not to blame.

    The way of a record that was refused: it is read anew by a reader that lets pass what is wrong inside an item.
    """
    try:
        found = json.loads(_control(value).decode("utf-8", "surrogateescape"), parse_int=_integer)
        field, items_decoder = _ITEMS[found["type"]]
        items = found[field]
        whole = _decoded(decoder, json.dumps({**found, field: []}).encode())
        if not isinstance(items, list):
            raise refusal
    except (ValueError, KeyError, TypeError, RecursionError, BadRecord):
        raise refusal from None
    good: list[Any] = []
    wrong: list[str] = []
    for number, item in enumerate(items):
        try:
            good.append(_decoded(items_decoder, json.dumps(item).encode()))
        except (BadRecord, RecursionError) as exc:
            wrong.append(f"{field}[{number}]: {exc}")
    return Sifted(msgspec.structs.replace(cast("Any", whole), **{field: good}), wrong or [str(refusal)])


def _integer(text: str) -> int | str:
    return int(text) if len(text) < 25 else text  # a longer one is wrong wherever it stands


def decode_revocation(value: bytes | None) -> Revocation:
    """Decode a record of `revocations`. Raises `BadRecord`."""
    if value is None:
        raise BadRecord("bad_request", "the record has no value")
    record = _decoded(_revocation, value)
    if (record.user is None) == (record.token is None):
        raise BadRecord("bad_request", "one of `user` and `token` is needed")
    return record
