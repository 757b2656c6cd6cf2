"""What a session and the feed want done: values that the hub carries out."""

import msgspec


class Connect(msgspec.Struct, frozen=True, gc=False):
    """Tell the worker that the session has opened, and what its device has."""

    epoch: str | None
    cursors: dict[str, int] | None


class AskSync(msgspec.Struct, frozen=True, gc=False):
    """Ask for the entries of `log` after `after`, at most `limit`; `asked`: because the client said so."""

    log: str
    after: int
    limit: int
    asked: bool


class Acknowledge(msgspec.Struct, frozen=True, gc=False):
    """The session's device has `log` up to `delivered` and has shown it up to `read`; both only grow."""

    log: str
    delivered: int
    read: int


class CheckToken(msgspec.Struct, frozen=True, gc=False):
    """The client brought a new token; the answer goes to `Session.refresh`."""

    token: str
    ref: str | None


class SameToken(msgspec.Struct, frozen=True, gc=False):
    """`hello` brought a token, and the request had one before: end the session unless they say the same."""

    token: str


class CloseWith(msgspec.Struct, frozen=True, gc=False):
    """End the transport with a code of `gateway.codes`."""

    code: int
    reason: str


SessionEffect = Connect | AskSync | Acknowledge | CheckToken | SameToken | CloseWith


class SyncPartitions(msgspec.Struct, frozen=True):
    """Something of these partitions may have been lost on the bus: sync all their sessions."""

    partitions: frozenset[int]


class AnnouncePartition(msgspec.Struct, frozen=True):
    """A partition has a new owner: tell it which sessions are open here."""

    partition: int
    epoch: int


FeedEffect = SyncPartitions | AnnouncePartition
