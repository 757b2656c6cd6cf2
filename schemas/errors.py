"""The one tree of errors. The docstring of a class is its message where none is given."""

import errno
from enum import Enum
from typing import ClassVar, Final


class TocsinError(Exception):
    """Something went wrong in Tocsin."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class SettingsError(TocsinError):
    """A setting is unknown or malformed."""

    exit_code = 2


class TopicsError(TocsinError):
    """The topics of the cluster and topics.yaml do not agree."""


class BadRecord(TocsinError):
    """A Kafka record that cannot be processed; it becomes a dead letter.

    `code` is one of `schemas.records.REASONS`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BadFrame(TocsinError):
    """A frame of a client that is answered by an `error` frame with `code`; `frame` is its type, empty if unknown."""

    def __init__(self, code: str, message: str, ref: str | None = None, frame: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.ref = ref
        self.frame = frame


class BadToken(TocsinError):
    """The token is missing, malformed, expired or not signed by us."""


class Kind(Enum):
    """What a failure outside says of doing the same again."""

    AWAY = "away"  # a server is away, slow, or busy with itself: the same is asked again
    BARRED = "barred"  # it is there and takes nothing of this kind until an operator acts: asked again, and said
    REFUSED = "refused"  # the server will never take this content as it is: never asked again
    CLIENT = "client"  # our client of the server is beyond use: a new one asks again
    DISK = "disk"  # the disk or the files of this process fail: it says so and ends
    OURS = "ours"  # a fault of ours: the process ends


class Away(TocsinError):
    """A server is away or slow: the same may be asked again."""


class Barred(Away):
    """A server is there and takes nothing of this kind until an operator acts; the same may be asked again then."""


class RevokedToken(BadToken):
    """The token was revoked."""


class UnknownKey(BadToken):
    """The token names a key that is not known here."""


class BadKey(TocsinError):
    """A key by which no token is checked."""


class KeysAway(BadToken):
    """The keys of tokens cannot be read now; come again."""


class Refused(TocsinError):
    """A server will never take this as it is."""


class DiskError(TocsinError):
    """The disk under files of this process fails; what was not written is not acknowledged."""


class StoreError(TocsinError):
    """The store did not do what was asked."""


class StoreAway(StoreError, Away):
    """The store is away or slow: the same may be asked again."""


class StoreBarred(StoreAway, Barred):
    """The store lets this process in no more, or lacks what it had: an operator has to act."""


class StoreRefused(StoreError, Refused):
    """The store will never take this as it is."""


class StoreBroken(StoreError, DiskError):
    """The files of the store, which are this process's own, fail."""


class StoreBehind(StoreError):
    """The store has not been migrated: run `tocsin store apply`."""


class ServerFailed(TocsinError):
    """A server that Tocsin started did not come up."""


# What an operating system says of a disk, and never of a connection.
OWN_DISK: Final = frozenset({errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.ENXIO, errno.EUCLEAN})
