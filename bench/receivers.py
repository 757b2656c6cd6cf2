"""Stands in for gateways and their clients where only workers are measured.

Every user has sessions of several devices. What comes over Redis is checked (each session gets every seq of a log
once, in order) and acknowledged, each device about once a second, as gateways pack it.
"""

import asyncio
import time
from collections import Counter, defaultdict
from typing import Any, Final

import redis.asyncio
from aiokafka import AIOKafkaProducer

from bench.publish import due_of
from schemas import bus
from schemas.bus import GAP, Heard
from schemas.records import Ack, Acks, Connected, encode
from streams.partitions import home_partition

GATEWAY: Final = "bench-gateway"
LOG: Final = "inbox/normal"
PACK: Final = 500  # acks in one record
SWEEP: Final = 0.2  # s between writes of acks, of some of the devices each time
TURNS: Final = 5  # sweeps in which every device has had its turn
LEASE: Final = 600  # s


class Receivers:
    """One gateway with sessions `u0-phone`, `u0-web`, `u1-phone` … of `users` users."""

    def __init__(self, kafka: str, url: str, prefix: str, *, users: int, devices: tuple[str, ...], partitions: int):
        self._redis: Any = redis.asyncio.Redis.from_url(url)
        self._producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=2)
        self._prefix = prefix
        self._topic = f"{prefix}connections"
        self._ack_topic = f"{prefix}acks"
        self._homes = {f"u{number}": home_partition(b"u%d" % number, partitions) for number in range(users)}
        self._devices = devices
        self._next: dict[str, int] = {}  # by session, from its opening on
        self._users: dict[str, tuple[str, str]] = {f"{u}-{d}": (u, d) for u in self._homes for d in devices}
        self._turns = {session: number % TURNS for number, session in enumerate(self._users)}
        self._owed: list[dict[str, int]] = [{} for _ in range(TURNS)]  # by turn: session → seq to acknowledge
        self._tasks: list[asyncio.Task[None]] = []
        self.received = 0
        self.wrong = 0
        self.acks = 0
        self.latency: Counter[int] = Counter()  # µs since a record was due, rounded to 100 µs

    async def __aenter__(self) -> "Receivers":
        await self._producer.start()
        await self._redis.set(bus.lease_key(self._prefix, GATEWAY), b"{}", ex=LEASE)
        listening = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._listen(listening)))
        await listening.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._producer.stop()
        await self._redis.aclose()

    async def connect(self, within: float) -> None:
        """Open all sessions and wait until the workers have answered each. Raises `TimeoutError`."""
        for session, (user, device) in self._users.items():
            record = Connected(user=user, session=session, gateway=GATEWAY, device=device)
            await self._producer.send(self._topic, encode(record), user.encode(), self._homes[user])
        await self._producer.flush()
        end = time.monotonic() + within
        while missing := len(self._users) - len(self._next):
            if time.monotonic() > end:
                raise TimeoutError(f"{missing:,} sessions were not opened within {within:.0f} s")
            await asyncio.sleep(0.02)
        self._tasks.append(asyncio.create_task(self._acknowledge()))

    async def arrived(self, entries: int, within: float) -> bool:
        """Wait until every session together was sent so many entries; False: time is up."""
        end = time.monotonic() + within
        while self.received < entries and time.monotonic() < end:  # noqa: ASYNC110 - many messages bring it about
            await asyncio.sleep(0.01)
        return self.received >= entries

    @property
    def acknowledged(self) -> bool:
        """Whether every session has acknowledged the last entry that it was sent."""
        return not any(self._owed)

    def percentile(self, share: float) -> float:
        """Return a percentile of the latency so far, in ms."""
        wanted, seen = share * self.latency.total(), 0
        for value, count in sorted(self.latency.items()):
            seen += count
            if seen > wanted:
                return value / 1000
        return 0.0

    async def _listen(self, listening: asyncio.Event) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(bus.gateway_channel(self._prefix, GATEWAY))
            async for message in pubsub.listen():
                if message["type"] == "message":
                    self._take(bus.decode(message["data"]))
                else:
                    listening.set()

    def _take(self, message: Any) -> None:
        if not isinstance(message, Heard):
            return
        now = time.monotonic_ns() // 1000
        for part in message.parts:
            for opening in part.openings:
                after = next(log.after for log in opening.logs if log.log == LOG)
                self._next.setdefault(opening.session, after + 1)
            for delivery in bus.decode_deliveries(part.deliveries):
                for run in delivery.runs:
                    self._show(run, delivery.sessions, now)

    def _show(self, run: bus.Run, sessions: list[str], now: int) -> None:
        if run.reason == GAP or run.frame is None:
            self.wrong += len(sessions)
            return
        for session in sessions:
            self.wrong += run.first != self._next[session]
            self._next[session] = run.last + 1
            self._owed[self._turns[session]][session] = run.last
        self.received += len(sessions)
        self.latency[max(0, now - due_of(run.frame)) // 100 * 100] += len(sessions)

    async def _acknowledge(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(SWEEP)
            turn = (turn + 1) % TURNS
            owed, self._owed[turn] = self._owed[turn], {}
            by_partition: defaultdict[int, list[Ack]] = defaultdict(list)
            for session, seq in owed.items():
                user, device = self._users[session]
                by_partition[self._homes[user]].append(Ack(user, device, LOG, seq, 0))
            for partition, acks in by_partition.items():
                self.acks += len(acks)
                for at in range(0, len(acks), PACK):
                    pack = Acks(gateway=GATEWAY, acks=acks[at : at + PACK])
                    await self._producer.send(self._ack_topic, encode(pack), pack.acks[0].user.encode(), partition)
