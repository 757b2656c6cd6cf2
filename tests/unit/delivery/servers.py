"""Models of the servers that delivery goes through: Kafka, Redis and the store, in memory, under a clock of their own.

Whatever a worker does outside of itself stops at `pause` first, so a test decides, effect by effect, whether the worker
goes on, stays frozen for a while, or is gone.
"""

import types
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from typing import Any, NamedTuple

from aiokafka.errors import KafkaConnectionError
from redis.exceptions import ConnectionError as NoRedis

from schemas.errors import StoreError
from schemas.rows import RECENT, Append, Cursor, Device, Head, Range, Rewrite, Row, Standing
from streams.failures import OUTSIDE
from streams.partitions import home_partition
from streams.producer import Emit

PARTITIONS = 2
BEATS = "gateways"

Changelogs = defaultdict[tuple[str, int], dict[bytes, bytes]]  # by table and partition: what compaction leaves


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Stop before (or after) an effect."""
    yield


class Concurrency:
    """Stands in for the module `asyncio` in an agent: `gather` goes on with its works in the order of `turns`."""

    def __init__(self) -> None:
        self.turns: tuple[int, ...] = (0,)  # whose turn it is, over and over

    async def gather(self, *works: Coroutine[Any, Any, None]) -> None:
        waiting = list(works)
        turns = cycle(self.turns)
        try:
            while waiting:
                work = waiting[next(turns) % len(waiting)]
                try:
                    work.send(None)
                except StopIteration:
                    waiting.remove(work)
                except OUTSIDE:
                    waiting.remove(work)  # the others go on, and nobody waits for them
                    for other in waiting:
                        with suppress(StopIteration, *OUTSIDE):
                            while True:
                                other.send(None)
                    raise
                else:
                    await pause()
        finally:
            for work in waiting:
                work.close()


class Clock:
    """Stands in for the module `time`; starts at noon of some day."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class TP(NamedTuple):
    topic: str
    partition: int


class Message:
    """A record as the consumer hands it on."""

    def __init__(self, tp: TP, offset: int, emit: Emit, timestamp: float) -> None:
        self.tp, self.topic, self.partition, self.offset = tp, tp.topic, tp.partition, offset
        self.key, self.value, self.headers = emit.key, emit.value, emit.headers
        self.timestamp = timestamp


class Kafka:
    """Partitions, committed offsets, and changelogs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.logs: defaultdict[TP, list[Message]] = defaultdict(list)
        self.committed: defaultdict[TP, int] = defaultdict(int)
        self.away = False
        self.changelogs: Changelogs = defaultdict(dict)

    def append(self, emit: Emit) -> None:
        partition = home_partition(emit.key or b"", PARTITIONS) if emit.partition is None else emit.partition
        tp = TP(emit.topic, partition)
        self.logs[tp].append(Message(tp, len(self.logs[tp]), emit, self._clock.now))

    async def ends(self, *partitions: Any) -> dict[Any, int]:
        """What the worker's consumer says of the ends of partitions."""
        return {tp: len(self.logs[TP(*tp)]) for tp in partitions}

    async def emit(self, emits: Iterable[Emit]) -> None:
        """What the worker's producer does; a crash may come between any two partitions."""
        for emit in emits:
            await pause()
            self.answer()
            self.append(emit)

    def answer(self) -> None:
        if self.away:
            raise KafkaConnectionError("Kafka is away")


class Rocks:
    """A table: changelog first, then the local copy, which begins as what the changelog had."""

    def __init__(self, name: str, changelogs: Changelogs, partitions: Iterable[int]) -> None:
        self._name = name
        self._changelogs = changelogs
        self.on_recovery: Callable[[], object] = lambda: None  # never: who takes over begins anew
        self._local = {partition: dict(changelogs[name, partition]) for partition in partitions}

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self._local[partition].get(key)

    def scan(self, partition: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return [(key, value) for key, value in sorted(self._local[partition].items()) if key > after][:limit]

    async def write(self, producer: Any, changes: Mapping[int, Sequence[tuple[bytes, bytes | None]]]) -> None:
        for partition, items in changes.items():
            await pause()
            producer.answer()
            _apply(self._changelogs[self._name, partition], items)
        await pause()
        for partition, items in changes.items():
            _apply(self._local[partition], items)


def _apply(table: dict[bytes, bytes], items: Sequence[tuple[bytes, bytes | None]]) -> None:
    for key, value in items:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


class Redis:
    """Channels: what is published is on its way to who listens; nothing is kept for who does not."""

    def __init__(self) -> None:
        self.listening: dict[str, list[bytes]] = {}  # by gateway: what is on its way
        self.leases: set[str] = set()
        self.away = False

    async def publish(self, channel: str, data: bytes) -> int:
        if self.away:
            raise NoRedis("Redis is away")
        gateways = list(self.listening) if channel == BEATS else [channel.removeprefix("gw:")]
        reached = [self.listening[gateway] for gateway in gateways if gateway in self.listening]
        for queue in reached:
            queue.append(data)
        return len(reached)

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        if self.away:
            raise NoRedis("Redis is away")
        return [b"{}" if key.removeprefix("gateway:") in self.leases else None for key in keys]

    def pipeline(self, *, transaction: bool) -> "Pipeline":
        return Pipeline(self)


class Pipeline:
    """Publishes, one after the other."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._wanted: list[tuple[str, bytes]] = []

    async def __aenter__(self) -> "Pipeline":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._wanted.clear()

    def publish(self, channel: str, data: bytes) -> None:
        self._wanted.append((channel, data))

    async def execute(self, *, raise_on_error: bool = True) -> list[int]:
        await pause()
        return [await self._redis.publish(channel, data) for channel, data in self._wanted]


class Store:
    """The port's promises: rows and heads under the epoch that wrote them, cursors by max; each log by itself."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, dict[int, tuple[int, Row]]] = defaultdict(dict)
        self.ends: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))  # epoch, seq
        self.cursors: dict[tuple[str, str, str], tuple[int, int]] = {}
        self.devices: dict[tuple[str, str], Device] = {}
        self._epochs = 0
        self.away = False

    async def _reached(self) -> None:
        await pause()
        if self.away:
            raise StoreError("the store is away")

    def claimed(self) -> int:
        self._epochs += 1
        return self._epochs

    def visible(self, log: str) -> list[Row]:
        return [row for seq, (_, row) in sorted(self.rows[log].items()) if seq <= self.ends[log][1]]

    def head(self, log: str, recent: int = RECENT) -> Head:
        rows = self.visible(log)
        if not rows:
            return Head()
        marks = tuple(row.mark() for row in rows[::-1][:recent])
        return rows[-1].head(marks)

    async def epoch(self) -> str:
        return "epoch"

    async def heads(self, logs: Sequence[str], recent: int = RECENT) -> dict[str, Head]:
        await self._reached()
        found = {log: self.head(log, recent) for log in logs}
        await self._reached()
        return found

    async def append(self, batches: Sequence[Append]) -> None:
        for batch in batches:
            await self._reached()
            rows = self.rows[batch.log]
            for row in batch.rows:
                if batch.epoch >= rows.get(row.seq, (0, row))[0]:
                    rows[row.seq] = (batch.epoch, row)
            await self._reached()
            self.ends[batch.log] = max(self.ends[batch.log], (batch.epoch, batch.rows[-1].seq))
        await self._reached()

    async def rewrite(self, rewrites: Sequence[Rewrite]) -> None:
        """Look at rows and heads, then write them: others may write in between."""
        for wanted in rewrites:
            await self._reached()
            seen = [row for row in self.visible(wanted.log) if wanted.first <= row.seq <= wanted.last]
            end = self.ends[wanted.log][1]
            await self._reached()
            rows = self.rows[wanted.log]
            for row in seen:
                if wanted.epoch >= rows[row.seq][0]:
                    rows[row.seq] = (wanted.epoch, row)
            await self._reached()
            self.ends[wanted.log] = max(self.ends[wanted.log], (wanted.epoch, end))
        await self._reached()

    async def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        await self._reached()
        found = [[row for row in self.visible(one.log) if one.first <= row.seq <= one.last] for one in ranges]
        await self._reached()
        return found

    async def expiries(self, ranges: Sequence[Range]) -> list[list[int]]:
        return [
            [row.expires for row in rows if row.expires and not row.device and not row.skip]
            for rows in await self.read(ranges)
        ]

    async def put_cursors(self, cursors: Sequence[Cursor]) -> None:
        for one in cursors:
            await self._reached()
            place = (one.user, one.log, one.device)
            delivered, read = self.cursors.get(place, (0, 0))
            self.cursors[place] = (max(delivered, one.delivered), max(read, one.read))

    async def get_cursors(self, users: Sequence[str]) -> dict[str, list[Cursor]]:
        await self._reached()
        return {
            user: [Cursor(*place, *marks) for place, marks in self.cursors.items() if place[0] == user]
            for user in users
        }

    async def standings(self, wanted: Sequence[tuple[str, str]], logs: Sequence[str]) -> list[Standing]:
        await self._reached()
        return [
            Standing(
                self.devices.get((user, device)),
                [
                    Cursor(*place, *marks)
                    for place, marks in self.cursors.items()
                    if place[0] == user and place[1] in logs and place[2] in ("", device)
                ],
            )
            for user, device in wanted
        ]

    async def put_devices(self, devices: Sequence[Device]) -> None:
        await self._reached()
        self.devices |= {(one.user, one.device): one for one in devices}

    async def seen_devices(self, user: str, limit: int) -> dict[str, int]:
        await self._reached()
        return {name: one.seen for (of, name), one in list(self.devices.items()) if of == user}

    async def forget_devices(self, user: str, devices: Sequence[str], logs: Sequence[str]) -> None:
        await self._reached()
        for device in devices:
            self.devices.pop((user, device), None)
            for place in [place for place in self.cursors if place[0] == user and place[2] == device]:
                del self.cursors[place]
