"""Stands in for workers and store where only gateways are measured: `python -m bench.standin --kafka … --redis …`.

It takes the records that gateways write, answers sessions, and packs what the Redis channel `bench` brings for the
gateways, in the same messages and frames as a worker would. Logs are lists in memory, the last `KEPT` entries each.
Like a worker it takes what has come while the batch before was in work; a batch is in work for `HOLD`, the time that
a store takes at the least.
"""

import argparse
import asyncio
import struct
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import redis.asyncio
import uvloop
from aiokafka import AIOKafkaConsumer

from bench.publish import CHANNEL, EVERYBODY
from cli.kafka import hush
from schemas import bus, frames
from schemas.bus import Answer, Delivery, LogOpening, Opening, Part, Run
from schemas.logs import INBOX_LOGS
from schemas.records import Connected, Disconnected, Notification, Sync, decode_connection
from streams.partitions import home_partition

LOG: Final = "inbox/normal"
EPOCH: Final = "bench"
KEPT: Final = 100
BEAT: Final = 2.0  # s
HOLD: Final = 0.01  # s
_ITEM: Final = struct.Struct("<II")


class _Payload(msgspec.Struct):
    kind: str
    title: str
    body: str


_payload: Final = msgspec.json.Decoder(_Payload)


def _decode(payload: bytes, user: str) -> Notification:
    said = _payload.decode(payload)
    return Notification(user=user, kind=said.kind, title=said.title, body=said.body)


def items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the items of a pack: client number and payload."""
    at = 0
    while at < len(data):
        client, size = _ITEM.unpack_from(data, at)
        at += _ITEM.size + size
        yield client, data[at - size : at]


class StandIn:
    """Sessions by user and gateway, logs by user."""

    def __init__(self, client: Any, prefix: str, partitions: int) -> None:
        self._redis = client
        self._prefix = prefix
        self._partitions = partitions
        self._homes: dict[str, int] = {}
        self._sessions: defaultdict[str, dict[str, str]] = defaultdict(dict)  # user: session: gateway
        self._by_gateway: defaultdict[str, dict[str, str]] = defaultdict(dict)  # gateway: session: user
        self._logs: defaultdict[str, deque[Run]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._numbers: defaultdict[str, int] = defaultdict(int)

    def _home(self, user: str) -> int:
        home = self._homes.get(user)
        if home is None:
            home = self._homes[user] = home_partition(user.encode(), self._partitions)
        return home

    async def publish(self, parts: dict[str, dict[int, Part]]) -> None:
        """Send parts (by gateway and partition), one message a gateway."""
        for gateway, by_partition in parts.items():
            self._numbers[gateway] += 1
            message = bus.Packed("standin", self._numbers[gateway], list(by_partition.values()))
            await self._redis.publish(bus.gateway_channel(self._prefix, gateway), bus.encode(message))

    async def beat_for_ever(self) -> None:
        """Announce all partitions, as the only worker."""
        owned = dict.fromkeys(range(self._partitions), 1)
        while True:
            message = bus.Beat("standin", owned, dict(self._numbers))
            await self._redis.publish(bus.beat_channel(self._prefix), bus.encode(message))
            await asyncio.sleep(BEAT)

    async def take_records(self, values: list[bytes]) -> None:
        """Register and answer sessions."""
        parts = _Parts()
        for value in values:
            record = decode_connection(value)
            match record:
                case Connected():
                    self._sessions[record.user][record.session] = record.gateway
                    self._by_gateway[record.gateway][record.session] = record.user
                    self._open(record, parts.of(record.gateway, self._home(record.user)))
                case Disconnected():
                    self._sessions[record.user].pop(record.session, None)
                    self._by_gateway[record.gateway].pop(record.session, None)
                case Sync():
                    for asked in record.syncs:
                        runs = [run for run in self._logs[asked.user] if run.first > asked.after and asked.log == LOG]
                        answer = Answer(
                            asked.session, asked.log, asked.after, self._head(asked.user, asked.log), runs, asked.asked
                        )
                        parts.of(record.gateway, self._home(asked.user)).answers.append(answer)
        await self.publish(parts.by_gateway)

    def _head(self, user: str, log: str) -> int:
        return self._logs[user][-1].last if log == LOG and self._logs[user] else 0

    def _open(self, said: Connected, part: Part) -> None:
        after = (said.cursors or {}).get(LOG, 0)
        head = self._head(said.user, LOG)
        openings = [LogOpening(log, after if log == LOG else 0, self._head(said.user, log), 0) for log in INBOX_LOGS]
        part.openings.append(Opening(said.session, EPOCH, openings))
        if head > after:
            runs = [run for run in self._logs[said.user] if run.first > after]
            part.deliveries.append(Delivery(said.user, [said.session], runs))

    async def take_items(self, packs: Sequence[bytes]) -> None:
        """Append what the channel brought, and deliver it."""
        parts, ts = _Parts(), time.time_ns() // 1_000_000
        for data in packs:
            for client, payload in items(data):
                if client == EVERYBODY:
                    self._deliver_to_all(payload, ts, parts)
                else:
                    self._deliver(f"u{client}", payload, ts, parts)
        await self.publish(parts.by_gateway)

    def _deliver(self, user: str, payload: bytes, ts: int, parts: "_Parts") -> None:
        run = self._append(user, payload, ts)
        sessions = self._sessions[user]
        for gateway in set(sessions.values()):
            mine = [session for session, its in sessions.items() if its == gateway]
            parts.of(gateway, self._home(user)).deliveries.append(Delivery(user, mine, [run]))

    def _deliver_to_all(self, payload: bytes, ts: int, parts: "_Parts") -> None:
        run = self._append("all", payload, ts)
        for gateway, sessions in self._by_gateway.items():
            parts.of(gateway, 0).deliveries.append(Delivery("all", list(sessions), [run]))

    def _append(self, user: str, payload: bytes, ts: int) -> Run:
        log = self._logs[user]
        seq = log[-1].last + 1 if log else 1
        said = _decode(payload, user)
        frame = frames.notification_frame(said, log=LOG, seq=seq, n=seq, id_=f"{user}-{seq}", ts_ms=ts)
        run = Run(LOG, seq, seq, ts, frame)
        log.append(run)
        return run


class _Parts:
    def __init__(self) -> None:
        self.by_gateway: defaultdict[str, dict[int, Part]] = defaultdict(dict)

    def of(self, gateway: str, partition: int) -> Part:
        parts = self.by_gateway[gateway]
        if partition not in parts:
            parts[partition] = Part(partition, 1, [], [], [])
        return parts[partition]


async def run(kafka: str, url: str, prefix: str) -> None:
    """Work until cancelled; says `ready` once it hears both servers."""
    client = redis.asyncio.Redis.from_url(url)
    topic = f"{prefix}connections"
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, fetch_max_wait_ms=20, auto_offset_reset="earliest")
    await consumer.start()
    standin = StandIn(client, prefix, len(consumer.partitions_for_topic(topic) or ()))

    async def take_records() -> None:
        while True:
            found = await consumer.getmany(timeout_ms=1000, max_records=2000)
            await standin.take_records([record.value for records in found.values() for record in records])

    waiting: list[bytes] = []
    came = asyncio.Event()

    async def hear_items() -> None:
        async with client.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    print("ready", flush=True)
                else:
                    waiting.append(message["data"])
                    came.set()

    async def take_items() -> None:
        while True:
            await came.wait()
            came.clear()
            packs = waiting.copy()
            waiting.clear()
            await asyncio.sleep(HOLD)  # the store is at work
            await standin.take_items(packs)

    await asyncio.gather(take_records(), hear_items(), take_items(), standin.beat_for_ever())


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.standin", description=__doc__)
    parser.add_argument("--kafka", required=True, help="brokers")
    parser.add_argument("--redis", required=True, help="URL")
    parser.add_argument("--prefix", default="", help="of topics and channels")
    given = parser.parse_args()
    hush()
    uvloop.run(run(given.kafka, given.redis, given.prefix))


if __name__ == "__main__":
    main()
