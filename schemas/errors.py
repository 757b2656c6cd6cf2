"""The one tree of errors. The docstring of a class is its message where none is given."""

from typing import ClassVar


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
    """A frame of a client that is answered by an `error` frame with `code`."""

    def __init__(self, code: str, message: str, ref: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.ref = ref


class BadToken(TocsinError):
    """The token is missing, malformed, expired or not signed by us."""


class StoreError(TocsinError):
    """The store did not do what was asked; the caller may try again."""


class StoreBehind(StoreError):
    """The store has not been migrated: run `tocsin store apply`."""


class ServerFailed(TocsinError):
    """A server that Tocsin started did not come up."""
