"""What workers and operators say to gateways over Redis: packed msgpack messages, numbered by stream, and beats.

Operators' commands speak on the same channels: an `Inquiry` goes to all gateways and each answers on a channel of its
own. A message with a tag that the reader does not know is dropped by it, so that versions may run side by side.

A **stream** is what one worker process sends to one gateway; its messages are numbered 1, 2, 3 …. A **beat** goes to
all gateways and names the last number of each stream, so that a lost message is noticed although nothing follows it.
"""

from typing import Final, TypeVar

import msgspec

from schemas.records import Seq

TOO_MANY_SESSIONS: Final = 4007  # the close code (`gateway.codes`) of a session whose user has too many
GAP: Final = "gap"  # the reason of a run that says: these entries exist and are not in this message


class Run(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Entries `first` to `last` of a log for the sessions of a delivery.

    `frame` is the text frame of the one entry (first == last); without it there is nothing to show, because of
    `reason`: a reason of the frame `skip`, or `GAP`. `ts` is the append time of the entry in Kafka (ms), 0 if none.
    """

    log: str
    first: Seq
    last: Seq
    ts: int = 0
    frame: bytes | None = None
    reason: str = ""


class Delivery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Runs for sessions of one user, ordered within each log."""

    user: str
    sessions: list[str]
    runs: list[Run]


class LogOpening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a session starts in a log: after `after`; the log ends at `head`.

    `notice` is `reset` or `too_long` where the device's own cursor cannot be followed, else empty.
    """

    log: str
    after: Seq
    head: Seq
    unread: int
    notice: str = ""


class Opening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to `connected`: what `welcome` says."""

    session: str
    epoch: str
    logs: list[LogOpening]


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to a sync: the runs of (after, last], and where the log ends."""

    session: str
    log: str
    after: Seq
    head: Seq
    runs: list[Run]
    asked: bool = False


class Refusal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session that its gateway has to end: with this close code and reason."""

    session: str
    code: int
    reason: str


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a message holds of one partition, under the epoch of the partition's owner."""

    partition: int
    epoch: int
    openings: list[Opening] = []
    deliveries: list[Delivery] = []
    answers: list[Answer] = []
    refusals: list[Refusal] = []


class Packed(msgspec.Struct, frozen=True, array_like=True, tag="p", gc=False):
    """A numbered message of a stream to one gateway."""

    stream: str
    number: int
    parts: list[Part]


class HeardPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part as gateways read it: its deliveries are packed still, for of most of them no objects are needed."""

    partition: int
    epoch: int
    openings: list[Opening] = []
    deliveries: msgspec.Raw = msgspec.Raw(b"\x90")  # none
    answers: list[Answer] = []
    refusals: list[Refusal] = []


class Heard(msgspec.Struct, frozen=True, array_like=True, tag="p", gc=False):
    """What gateways read of a `Packed`."""

    stream: str
    number: int
    parts: list[HeardPart]


class Beat(msgspec.Struct, frozen=True, array_like=True, tag="b", gc=False):
    """To every gateway: the partitions that the worker owns, by epoch, and the last number sent to each gateway."""

    stream: str
    partitions: dict[int, int]
    numbers: dict[str, int]


class StandsStill(msgspec.Struct, frozen=True):
    """A partition whose oldest record has been tried for `seconds`, and why that failed last."""

    topic: str
    partition: int
    offset: int
    seconds: float
    error: str


class Deleted(msgspec.Struct, frozen=True):
    """Offsets, both included, that Kafka deleted before they were processed; `at` is when that was found, ms."""

    topic: str
    partition: int
    first: int
    last: int
    at: int


class WorkerLease(msgspec.Struct, frozen=True):
    """What a worker says of itself in Redis for as long as it lives (JSON), for operators on other machines."""

    name: str
    partitions: int
    standing: list[StandsStill] = []
    deleted: list[Deleted] = []


class Inquiry(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """An operator asks every gateway for the sessions of a user; the answer is published to the channel `reply`.

    `device` and `session` narrow it down where they are not empty. With `end` the sessions that are found are ended.
    """

    reply: str
    user: str
    device: str = ""
    session: str = ""
    end: bool = False


Message = Heard | Beat | Inquiry


class Sighting(msgspec.Struct, frozen=True, array_like=True):
    """A session as its gateway sees it: `since` is when it opened, ms since 1970.

    `heads` is the last seq handed on by log, `waiting` the bytes that the network has not taken.
    """

    session: str
    device: str
    transport: str
    since: int
    heads: dict[str, int]
    waiting: int


class Found(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """What one gateway answers to an `Inquiry`; with `end` these sessions are ended."""

    gateway: str
    sessions: list[Sighting]


_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_deliveries = msgspec.msgpack.Decoder(list[Delivery])
_found = msgspec.msgpack.Decoder(Found)
encode = _encoder.encode


def decode(data: bytes) -> Message:
    """Decode what comes on a channel of gateways. Raises `msgspec.DecodeError`."""
    return _decoded(_decoder, data)


def decode_deliveries(data: bytes) -> list[Delivery]:
    """Decode the deliveries of a part. Raises `msgspec.DecodeError`."""
    return _decoded(_deliveries, data)


def decode_found(data: bytes) -> Found:
    """Decode an answer to an `Inquiry`. Raises `msgspec.DecodeError`."""
    return _decoded(_found, data)


def _decoded(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as exc:  # what the library leaves as it is
        raise msgspec.DecodeError(str(exc)) from None


def gateway_channel(prefix: str, gateway: str) -> str:
    """Return the Redis channel of one gateway process."""
    return f"{prefix}gw:{gateway}"


def beat_channel(prefix: str) -> str:
    """Return the Redis channel that every gateway listens to."""
    return f"{prefix}gateways"


def reply_channel(prefix: str, inquiry: str) -> str:
    """Return the Redis channel on which gateways answer an inquiry."""
    return f"{prefix}reply:{inquiry}"


def lease_key(prefix: str, gateway: str) -> str:
    """Return the Redis key that lives as long as the gateway does."""
    return f"{prefix}gateway:{gateway}"


def worker_key(prefix: str, worker: str) -> str:
    """Return the Redis key that lives as long as the worker does."""
    return f"{prefix}worker:{worker}"
