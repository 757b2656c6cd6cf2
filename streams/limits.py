"""How many entries a log takes in a time: a rule over the log's own rows.

Every row carries the log's **rate clock** (`tat`, µs since 1970): the time at which its whole budget is free again. It
moves by one share of the window for each entry that is shown, and never by our own clock. So what decides about the
next record is what is stored and the record's time, and a new owner of the partition decides as the former one would.
"""

import re
from typing import Final

import msgspec

from schemas.errors import SettingsError

MAX_WINDOW: Final = 86_400  # s
RATE_LIMITED: Final = "rate_limited"  # the reason of the status and of the devices' `skip`

_LIMIT: Final = re.compile(r"(?P<count>[1-9]\d{0,8})/(?P<seconds>\d{1,5}(\.\d{1,3})?)")


class Limit(msgspec.Struct, frozen=True):
    """At most `count` entries at once, and as many in each `window` µs."""

    count: int
    window: int

    def admit(self, tat: int, ts: int) -> int | None:
        """Return the rate clock after one more entry at `ts` (ms since 1970); None: it is over the limit."""
        now = ts * 1000
        share = self.window // self.count
        begun = max(tat, now)
        return begun + share if begun - now <= self.window - share else None


def limit_from(text: str, name: str) -> Limit | None:
    """Return the limit that a setting such as `600/60` names (entries a log, seconds); None for an empty one.

    Raises `SettingsError`.
    """
    if not text:
        return None
    found = _LIMIT.fullmatch(text.strip())
    window = round(float(found["seconds"]) * 1e6) if found else 0
    if found is None or not 0 < window <= MAX_WINDOW * 1_000_000:
        raise SettingsError(f"{name}: {text!r} is not entries/seconds, such as 600/60; empty: no limit")
    count = int(found["count"])
    if count > window:
        raise SettingsError(f"{name}: {text!r} is more than one entry a microsecond; leave it empty for no limit")
    return Limit(count, window)
