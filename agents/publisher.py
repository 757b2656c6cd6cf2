"""The worker's end of the bus: numbered messages to gateways, beats, and which gateways are gone.

Redis is never trusted to have delivered. Each message has a number, and a beat names the last one, so a gateway notices
what it lacks and asks for it. So a publish that fails is counted, and nothing waits for Redis to come back: once it has
let a publish time out, the next ones are lost without being tried, until it takes a beat again.
"""

import asyncio
import enum
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import redis.asyncio
from redis.exceptions import TimeoutError as RedisTimeout

from links.redis import LOST, guard, kind
from schemas import bus
from schemas.bus import Beat, Packed, Part
from schemas.errors import Kind
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)

RHYTHM: Final = 0.1  # s between looks at whether a beat is due
BEAT_SOON: Final = 0.5  # s after traffic that no beat has followed
BEAT_AGAIN: Final = 2.0  # s after the last traffic
BEAT_EVERY: Final = 10.0  # s without traffic
PROBE_AFTER: Final = 10.0  # s in which nothing was sent to a gateway, after which it is looked for
PROBES: Final = 200  # gateways that are looked for at once
LEASE_GONE: Final = 20.0  # s without a lease after which a gateway is dead: twice the lease's time
TIMEOUT: Final = 2.0  # s for one pipeline
COMPLAIN_EVERY: Final = 10.0  # s
MESSAGE_BYTES: Final = 512 * 1024  # bytes of frames after which a message is closed and another begun


class Rhythm:
    """When the next beat is due; times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._beat = now - BEAT_EVERY
        self._traffic = now - BEAT_AGAIN
        self._unannounced: float | None = None  # the first traffic since the last beat

    def traffic(self, now: float) -> None:
        """Note that a message was sent."""
        self._traffic = now
        self._unannounced = self._unannounced or now

    def beaten(self, now: float) -> None:
        """Note that a beat was sent."""
        self._beat = now
        self._unannounced = None

    def due(self) -> float:
        """Return the time of the next beat."""
        if self._unannounced is not None:
            return self._unannounced + BEAT_SOON
        if self._beat < self._traffic + BEAT_AGAIN:
            return self._traffic + BEAT_AGAIN
        return self._beat + BEAT_EVERY


class Link(enum.Enum):
    """What Redis did with what it was last sent."""

    TAKES = enum.auto()
    REFUSES = enum.auto()
    HANGS = enum.auto()  # it let it time out, so that every further try would hold a batch up


class Publisher:
    """Publishes parts to gateways; one a worker process."""

    def __init__(self, url: str, prefix: str, stream: str, metrics: WorkerMetrics) -> None:
        self._redis: Any = redis.asyncio.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
        guard(self._redis.connection_pool)
        self._prefix = prefix
        self._stream = stream
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._partitions: Mapping[int, int] = {}
        self._suspects: dict[str, float] = {}  # gateway: when a publish first reached nobody
        self._looked: dict[str, float] = {}  # every gateway that is not dead: when something was last sent to it
        self._rhythm = Rhythm(time.monotonic())
        self._link = Link.TAKES
        self._silent_until = 0.0
        self.dead: set[str] = set()
        self._metrics = metrics
        metrics.suspects.set_function(lambda: len(self._suspects))
        metrics.gateways.set_function(self.known)
        metrics.dead.set_function(lambda: len(self.dead))

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()

    def own(self, partitions: Mapping[int, int]) -> None:
        """Take note of the epochs that beats announce."""
        self._partitions = dict(partitions)

    def heard_of(self, gateway: str) -> None:
        """Note that a gateway has written a record: it lives."""
        self.dead.discard(gateway)
        self._suspects.pop(gateway, None)
        self.know(gateway)

    def know(self, gateway: str) -> None:
        """Note that a gateway has sessions: it is looked for from time to time."""
        if gateway not in self._looked and gateway not in self.dead:
            self._looked[gateway] = time.monotonic() - PROBE_AFTER

    def known(self) -> int:
        """Return how many gateways are looked for."""
        return len(self._looked)

    def gone(self, gateway: str) -> bool:
        """Say whether a gateway is dead, or has not been reached and may be."""
        return gateway in self.dead or gateway in self._suspects

    def bury(self, gateways: Iterable[str]) -> None:
        """Forget dead gateways that have no sessions any more."""
        self.dead.difference_update(gateways)

    async def publish(self, parts: Mapping[str, list[Part]]) -> None:
        """Send parts to gateways in one pipeline. Returns also when Redis did not take them."""
        messages = [(gateway, packed) for gateway, items in parts.items() for packed in self._packed(gateway, items)]
        if not messages:
            return
        self._rhythm.traffic(time.monotonic())
        if self._link is Link.HANGS:
            self._metrics.publish_failures.inc(len(messages))
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for gateway, packed in messages:
                    pipe.publish(bus.gateway_channel(self._prefix, gateway), bus.encode(packed))
                reached = await pipe.execute(raise_on_error=False)
        except LOST as exc:
            self._lost("messages", len(messages), exc)
            return
        self._link = Link.TAKES
        for (gateway, _), receivers in zip(messages, reached, strict=True):
            if isinstance(receivers, Exception):
                self._not_taken(gateway, receivers)
            else:
                self._reached(gateway, receivers)

    def _reached(self, gateway: str, receivers: int) -> None:
        now = time.monotonic()
        if gateway not in self.dead:
            self._looked[gateway] = now
        if receivers:
            self._suspects.pop(gateway, None)
        else:
            self._suspects.setdefault(gateway, now)

    def _not_taken(self, gateway: str, exc: Exception) -> None:
        """Take note of one message that Redis did not take; the others of its batch are none the worse."""
        if kind(exc) is Kind.OURS:
            raise exc
        self._lost(f"a message to gateway {gateway}", 1, exc)
        if kind(exc) is Kind.REFUSED:  # the next one may be taken
            self._link = Link.TAKES

    async def reaches(self) -> bool:
        """Say whether Redis takes messages; one that refused the last one is asked anew with a beat."""
        if self._link is Link.REFUSES:
            await self.beat()
        return self._link is Link.TAKES

    def _packed(self, gateway: str, parts: Iterable[Part]) -> Iterable[Packed]:
        group: list[Part] = []
        size = 0
        for part in parts:
            weight = _weight(part)
            if group and size + weight > MESSAGE_BYTES:
                yield self._numbered(gateway, group)
                group, size = [], 0
            group.append(part)
            size += weight
        if group:
            yield self._numbered(gateway, group)

    def _numbered(self, gateway: str, parts: list[Part]) -> Packed:
        self._numbers[gateway] += 1
        return Packed(stream=self._stream, number=self._numbers[gateway], parts=parts)

    async def beat(self) -> None:
        """Announce the owned partitions and the last numbers to every gateway."""
        self._rhythm.beaten(time.monotonic())
        message = Beat(stream=self._stream, partitions=dict(self._partitions), numbers=dict(self._numbers))
        try:
            await self._redis.publish(bus.beat_channel(self._prefix), bus.encode(message))
        except LOST as exc:
            self._lost("a beat", 1, exc)
            self._rhythm.traffic(time.monotonic())  # tried again soon: gateways wait to hear what they lack
        else:
            self._link = Link.TAKES

    def _lost(self, what: str, messages: int, exc: Exception) -> None:
        """Take note that Redis does not work, and say so once in a while: every batch would."""
        self._link = Link.HANGS if isinstance(exc, (RedisTimeout, TimeoutError)) else Link.REFUSES
        self._metrics.publish_failures.inc(messages)
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + COMPLAIN_EVERY
            log.warning("Redis did not take %s: %s; what was not published is asked for later", what, exc)

    async def beat_for_ever(self) -> None:
        """Beat 0.5 s and 2 s after traffic, else every 10 s; look after suspect gateways on the way."""
        while True:
            await asyncio.sleep(RHYTHM)
            if time.monotonic() >= self._rhythm.due():
                await self.beat()
                await self.look_after_gateways()

    async def look_after_gateways(self) -> None:
        """Look for gateways that nothing was sent to for a while, and declare dead those that are not there."""
        await self._look_for_silent()
        await self._look_after_suspects()

    async def _look_for_silent(self) -> None:
        """Send a beat to gateways by themselves: one that has ended without a word is noticed by that."""
        silent = time.monotonic() - PROBE_AFTER
        gateways = [gateway for gateway, looked in self._looked.items() if looked <= silent][:PROBES]
        if not gateways or self._link is Link.HANGS:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for gateway in gateways:
                    numbers = {gateway: self._numbers[gateway]} if gateway in self._numbers else {}
                    beat = Beat(stream=self._stream, partitions=dict(self._partitions), numbers=numbers)
                    pipe.publish(bus.gateway_channel(self._prefix, gateway), bus.encode(beat))
                reached = await pipe.execute()
        except LOST as exc:
            self._lost("beats", len(gateways), exc)
            return
        for gateway, receivers in zip(gateways, reached, strict=True):
            self._reached(gateway, receivers)

    async def _look_after_suspects(self) -> None:
        if not self._suspects:
            return
        gateways = list(self._suspects)
        try:
            leases = await self._redis.mget([bus.lease_key(self._prefix, gateway) for gateway in gateways])
        except LOST as exc:
            log.warning("Redis did not say which gateways live: %s", exc)
            return
        now = time.monotonic()
        for gateway, lease in zip(gateways, leases, strict=True):
            if lease is not None:
                self._suspects.pop(gateway, None)
            elif now - self._suspects.get(gateway, now) > LEASE_GONE:
                self._suspects.pop(gateway, None)
                self._numbers.pop(gateway, None)
                self._looked.pop(gateway, None)
                self.dead.add(gateway)
                log.info("gateway %s is dead: its sessions are dropped", gateway)


def _weight(part: Part) -> int:
    """Return how many bytes a part takes, about."""
    runs = [run for delivery in part.deliveries for run in delivery.runs]
    runs += [run for answer in part.answers for run in answer.runs]
    names = sum(len(delivery.sessions) for delivery in part.deliveries) + 4 * len(part.openings)
    return 200 + 60 * names + sum(len(run.frame or b"") + 60 for run in runs)
