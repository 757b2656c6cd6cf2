"""Which devices a user has: noted when they open a session, forgotten when there are too many or none has come back."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from schemas.logs import INBOX_LOGS
from schemas.rows import Device
from store.port import Store
from streams.connections import Sessions
from telemetry.worker import WorkerMetrics

DAY: Final = 86_400.0  # s
SEEN_AGAIN: Final = 60.0  # s; a device that comes back sooner is not noted again
COUNTED: Final = 10_000  # users whose number of devices is remembered
AT_ONCE: Final = 50  # devices that are forgotten at once


def outdated(seen: Mapping[str, int], *, limit: int, oldest: float, open_: Iterable[str]) -> list[str]:
    """Return the devices to forget: not seen since `oldest`, and those seen least lately where there are too many.

    Those in `open_` have sessions and stay.
    """
    stay = set(open_)
    by_age = sorted((at, device) for device, at in seen.items() if device not in stay)
    too_many = len(seen) - limit
    return [device for number, (at, device) in enumerate(by_age) if number < too_many or at < oldest][:AT_ONCE]


class Devices:
    """Notes devices. A user has `limit` of them, or a twentieth more, so that not each new one makes all be read."""

    def __init__(self, store: Store, metrics: WorkerMetrics, *, limit: int, days: float) -> None:
        self._store = store
        self._metrics = metrics
        self._limit = limit
        self._ttl = days * DAY
        self._counts: OrderedDict[str, int] = OrderedDict()  # by user, as far as it is known

    def oldest(self, now: float) -> float:
        """Return the time before which a device that was not seen is forgotten, s since 1970."""
        return now - self._ttl

    async def note(self, devices: list[Device], new: Iterable[tuple[str, Sessions]], now: float) -> None:
        """Note devices; `new` are the users of those that were not known, with their sessions. Raises `StoreError`."""
        if devices:
            await self._store.put_devices(devices)
        for user, sessions in new:
            await self._count(user, sessions, now)

    async def _count(self, user: str, sessions: Sessions, now: float) -> None:
        most = self._limit + self._limit // 20
        count = self._counts.pop(user, None)
        count = most + 1 if count is None else count + 1
        if count > most:
            look = 2 * most + 1
            seen = await self._store.seen_devices(user, look)
            gone = outdated(
                seen,
                limit=self._limit if len(seen) > most else most,
                oldest=self.oldest(now),
                open_=(place.device for place in sessions.values()),
            )
            if gone:
                await self._store.forget_devices(user, gone, INBOX_LOGS)
                self._metrics.forgotten.inc(len(gone))
            if len(seen) == look:  # and there are more: the next new device makes them be looked at again
                return
            count = len(seen) - len(gone)
        self._counts[user] = count
        if len(self._counts) > COUNTED:
            self._counts.popitem(last=False)
