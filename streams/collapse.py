"""Which entries of the lane `bulk` are merged: those that a later one with the same `collapse_key` replaces.

A client replaces what it shows under a key by what comes under it later. So where several of them are sent together,
because they came together or the device was held back, only the last is sent, and the others become a `skip`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.logs import inbox_log
from schemas.rows import Row

MERGED: Final = "merged"  # the reason of the devices' `skip`
COLLAPSING: Final = inbox_log("bulk")

_FIELD: Final = b'"collapse_key":'


class _Named(msgspec.Struct):
    id: str
    collapse_key: str = ""


_decode = msgspec.json.Decoder(_Named).decode


def entry_id(row: Row) -> str:
    """Return the id that a row's frame says."""
    return _decode(row.frame).id


def _key(row: Row) -> str:
    if _FIELD not in row.frame:  # most have none: not worth decoding
        return ""
    return _decode(row.frame).collapse_key


def merged(rows: Sequence[Row], log: str, device: str, now_ms: int) -> frozenset[int]:
    """Return the seqs of rows that a later one of `rows` replaces for a device."""
    if log != COLLAPSING or len(rows) < 2:
        return frozenset()
    replaced: set[int] = set()
    last: set[str] = set()
    for row in reversed(rows):
        if row.skip or row.device not in ("", device) or 0 < row.expires <= now_ms:
            continue  # the device is not sent it, so it replaces nothing
        if key := _key(row):
            if key in last:
                replaced.add(row.seq)
            last.add(key)
    return frozenset(replaced)
