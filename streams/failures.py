"""What a failure of a batch says of doing it again: the verdicts of every server's own table, put together. Pure."""

from typing import Final

from aiokafka.errors import KafkaError

from links import kafka_failures
from schemas.errors import OWN_DISK, Away, Barred, DiskError, Kind, Refused, StoreError

PASSING: Final = (Kind.AWAY, Kind.BARRED, Kind.CLIENT)  # kinds after which the same is asked again

# Failures of a server or of what it was given, and not of ours.
OUTSIDE: Final = (Refused, StoreError, KafkaError, OSError, TimeoutError)


_BY_CLASS: Final = (
    (Refused, Kind.REFUSED),
    (DiskError, Kind.DISK),
    (Barred, Kind.BARRED),
    (Away, Kind.AWAY),
    (StoreError, Kind.AWAY),  # one that says no more: nobody knows, so it is waited for
)


def kind(error: BaseException) -> Kind:
    """Return what to do about a failure."""
    if isinstance(error, KafkaError):
        return kafka_failures.kind(error)
    if isinstance(error, OSError):
        return Kind.DISK if error.errno in OWN_DISK else Kind.AWAY
    return next((found for base, found in _BY_CLASS if isinstance(error, base)), Kind.OURS)
