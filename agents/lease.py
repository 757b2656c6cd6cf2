"""The worker's lease in Redis: that it lives, what stands still in it, and what it found deleted; `doctor` reads it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
import redis.asyncio

from links.redis import LOST, guard
from schemas.bus import WorkerLease, worker_key

log = logging.getLogger(__name__)

TIMEOUT: Final = 2.0  # s
RENEW: Final = 3.0  # s between renewals
LASTS: Final = 15  # s that a lease lives


class Lease:
    """Keeps the entry of this worker alive; a Redis that is away, or does not permit it, only leaves it out."""

    def __init__(self, url: str, prefix: str, name: str, said: Callable[[], WorkerLease]) -> None:
        self._redis: Any = redis.asyncio.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
        guard(self._redis.connection_pool)
        self._key = worker_key(prefix, name)
        self._said = said
        self._failed = False

    async def renew_for_ever(self) -> None:
        """Renew it until cancelled."""
        while True:
            await self.renew()
            await asyncio.sleep(RENEW)

    async def renew(self) -> None:
        """Renew it once; that it cannot be is said once."""
        try:
            await self._redis.set(self._key, msgspec.json.encode(self._said()), ex=LASTS)
        except LOST as exc:
            if not self._failed:
                log.warning("Redis does not take what this worker says of itself, `tocsin doctor` lacks it: %s", exc)
            self._failed = True
        else:
            self._failed = False

    async def close(self) -> None:
        """Give it up and disconnect."""
        try:
            await self._redis.delete(self._key)
        except LOST as exc:
            log.info("the lease was left to expire: %s", exc)
        await self._redis.aclose()
