"""The gateway's connections to Redis: one listens to the bus, one renews the lease, one answers operators."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import redis.asyncio

from links.redis import LOST, guard
from schemas import bus
from schemas.errors import TocsinError

log = logging.getLogger(__name__)

PING: Final = 2.0  # s between pings
SILENCE: Final = 6.0  # s without a word of Redis after which the connection is given up
CONNECT: Final = 3.0  # s
BACKOFF: Final = (0.05, 0.2, 0.5, 1.0, 2.0)  # s before the next try
LEASE: Final = 10  # s that a lease lives
RENEW: Final = 3.0  # s between renewals


class Subscription:
    """Listens to channels and says when it has begun anew: what was published in between is lost."""

    def __init__(self, url: str, channels: Sequence[str]) -> None:
        self._pool: Any = redis.asyncio.ConnectionPool.from_url(url, protocol=2, socket_connect_timeout=CONNECT)
        guard(self._pool)
        self._channels = channels
        self._heard = 0.0
        self.problem: str | None = "not connected to Redis yet"

    async def run(self, began: Callable[[], None], take: Callable[[bus.Message], Awaitable[None]]) -> None:
        """Listen until cancelled. `began` is called each time that all channels are subscribed."""
        tries = 0
        while True:
            connection = self._pool.make_connection()
            try:
                await self._subscribe(connection)
                began()
                self.problem, tries = None, 0
                await self._listen(connection, take)
            except LOST as exc:
                if self.problem is None or not tries:
                    log.warning("the connection to Redis is lost or cannot be made, trying again: %s", exc)
                self.problem = "no connection to Redis"
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(BACKOFF[min(tries, len(BACKOFF) - 1)])
            tries += 1

    async def _subscribe(self, connection: Any) -> None:
        async with asyncio.timeout(CONNECT):
            await connection.connect()
            await connection.send_command("SUBSCRIBE", *self._channels)
            for _ in self._channels:
                await connection.read_response()

    async def _listen(self, connection: Any, take: Callable[[bus.Message], Awaitable[None]]) -> None:
        self._heard = asyncio.get_running_loop().time()
        reading = asyncio.ensure_future(self._read(connection, take))
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=PING)
                if reading.done():
                    break
                if asyncio.get_running_loop().time() - self._heard > SILENCE:
                    raise TimeoutError(f"Redis has been silent for {SILENCE:.0f} s")
                await connection.send_command("PING")
            reading.result()
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self, connection: Any, take: Callable[[bus.Message], Awaitable[None]]) -> None:
        time = asyncio.get_running_loop().time
        # The parser itself: the connection puts a timeout around each response, which costs more than all else here,
        # and silence is looked after by `_listen`. It is private to the library, which is why its version is pinned.
        read = connection._parser.read_response  # noqa: SLF001 - see above
        while True:
            response = await read(disable_decoding=True)
            self._heard = time()
            if response[0] == b"message":
                try:
                    message = bus.decode(response[2])
                except msgspec.DecodeError as exc:
                    log.warning("a message on the bus cannot be read and is dropped: %s", exc)
                    continue
                try:
                    await take(message)
                except Exception:  # what fails in us is no reason to take the connection for lost, nor to end
                    log.exception("a message on the bus cannot be dealt with and is dropped")


class Lease:
    """Keeps the gateway's entry in Redis alive; `state` gives what it says."""

    def __init__(self, url: str, prefix: str, gateway: str, state: Callable[[], dict[str, Any]]) -> None:
        self._redis: Any = redis.asyncio.Redis.from_url(url, socket_timeout=CONNECT, socket_connect_timeout=CONNECT)
        guard(self._redis.connection_pool)
        self._key = bus.lease_key(prefix, gateway)
        self._all = bus.lease_key(prefix, "")
        self._state = state
        self._taken = False

    async def renew(self) -> None:
        """Renew it once. Raises `TocsinError`."""
        try:
            await self._redis.set(self._key, msgspec.json.encode(self._state()), ex=LEASE)
            self._taken = True
        except LOST as exc:
            raise TocsinError(f"the lease of this gateway cannot be renewed: {exc}") from None

    async def others(self) -> list[dict[str, Any]]:
        """Return what the other gateways of this deployment say of themselves; none where Redis does not answer."""
        try:
            keys = [key async for key in self._redis.scan_iter(match=f"{self._all}*", count=1000)]
            values = await self._redis.mget(keys) if keys else []
        except LOST as exc:
            log.warning("Redis did not say which gateways live: %s", exc)
            return []
        found = zip(keys, values, strict=True)
        return [msgspec.json.decode(value) for key, value in found if value is not None and key != self._key.encode()]

    async def run(self) -> None:
        """Renew it until cancelled."""
        failed = False
        while True:
            try:
                await self.renew()
                failed = False
            except TocsinError as exc:
                if not failed:
                    log.warning("%s", exc)
                failed = True
            await asyncio.sleep(1.0 if failed else RENEW)

    async def release(self) -> None:
        """Give it up: the gateway has ended. Repeating it does nothing."""
        if self._taken:
            self._taken = False
            try:
                await self._redis.delete(self._key)
            except LOST as exc:
                log.warning("the lease was left to expire: %s", exc)
        await self._redis.aclose()


class Replies:
    """Publishes answers to operators; one that Redis does not take is lost, and the operator asks again."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.asyncio.Redis.from_url(url, socket_timeout=CONNECT, socket_connect_timeout=CONNECT)
        guard(self._redis.connection_pool)

    async def publish(self, channel: str, message: bytes) -> None:
        """Publish once."""
        try:
            await self._redis.publish(channel, message)
        except LOST as exc:
            log.warning("Redis did not take an answer to an operator: %s", exc)

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()
