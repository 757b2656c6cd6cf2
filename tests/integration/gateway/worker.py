"""A small worker for tests: takes what the gateway writes, keeps logs in memory, and answers over a real Redis."""

import time
from collections import defaultdict

import redis.asyncio

from gateway.outbox import Record, partition_of
from schemas import bus, frames, records
from schemas.bus import Answer, Delivery, LogOpening, Opening, Part, Run
from schemas.logs import INBOX_LOGS
from schemas.records import Ack, Acks, Announce, Connected, Disconnected, Sync, SyncRequest

PARTITIONS = 4
EPOCH = "store-1"


class FakeWorker:
    """A `Sender`: records come in by `send`."""

    def __init__(self, url: str, prefix: str) -> None:
        self.redis = redis.asyncio.Redis.from_url(url)
        self.prefix = prefix
        self.stream = "worker-1"
        self.epochs = dict.fromkeys(range(PARTITIONS), 1)
        self.logs: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
        self.sessions: dict[str, Connected] = {}
        self.ended: list[str] = []
        self.announced: list[Announce] = []
        self.syncs: list[SyncRequest] = []
        self.acks: dict[tuple[str, str, str], Ack] = {}
        self.numbers: defaultdict[str, int] = defaultdict(int)
        self.window = 100
        self.deaf = False  # answers nothing
        self.lossy = False  # what it publishes is lost

    async def start(self) -> int:
        return PARTITIONS

    async def stop(self) -> None:
        await self.redis.aclose()

    async def send(self, partition: int, taken: list[Record], *, acks: bool = False) -> None:
        for key, value in taken:
            record = records.decode_acks(value) if acks else records.decode_connection(value)
            match record:
                case Connected():
                    assert key == record.user.encode()
                    assert partition == partition_of(record.user, PARTITIONS)
                    self.sessions[record.session] = record
                    if not self.deaf:
                        await self._open(partition, record)
                case Disconnected():
                    self.sessions.pop(record.session, None)
                    self.ended.append(record.session)
                case Sync():
                    for request in record.syncs:
                        self.syncs.append(request)
                        await self._answer(partition, record.gateway, request)
                case Acks():
                    for ack in record.acks:
                        self.acks[ack.user, ack.device, ack.log] = ack
                case Announce():
                    self.announced.append(record)

    async def _open(self, partition: int, said: Connected) -> None:
        openings, deliveries = [], []
        for log in INBOX_LOGS:
            entries = self.logs[said.user, log]
            after, notice = (said.cursors or {}).get(log, 0), ""
            if log in (said.cursors or {}) and said.epoch != EPOCH:
                after, notice = len(entries), "reset"
            openings.append(LogOpening(log, after, len(entries), len(entries), notice))
            runs = entries[after : after + self.window]
            if runs:
                if runs[-1].last < len(entries):
                    runs = [*runs, Run(log, runs[-1].last + 1, len(entries), reason=bus.GAP)]
                deliveries.append(Delivery(said.user, [said.session], runs))
        opening = Opening(said.session, EPOCH, openings)
        await self.publish(said.gateway, partition, openings=[opening], deliveries=deliveries)

    async def _answer(self, partition: int, gateway: str, ask: SyncRequest) -> None:
        entries = self.logs[ask.user, ask.log]
        runs = entries[ask.after : ask.after + ask.limit]
        answer = Answer(ask.session, ask.log, ask.after, len(entries), runs, ask.asked)
        await self.publish(gateway, partition, answers=[answer])

    async def publish(self, gateway: str, partition: int, **what: object) -> None:
        self.numbers[gateway] += 1
        if self.lossy:
            return
        part = Part(partition, self.epochs[partition], **what)  # type: ignore[arg-type]  # one of its lists
        message = bus.Packed(self.stream, self.numbers[gateway], [part])
        await self.redis.publish(bus.gateway_channel(self.prefix, gateway), bus.encode(message))

    async def beat(self) -> None:
        message = bus.Beat(self.stream, self.epochs, dict(self.numbers))
        await self.redis.publish(bus.beat_channel(self.prefix), bus.encode(message))

    async def append(self, user: str, body: str, *, lane: str = "normal", times: int = 1) -> None:
        """Append entries to an inbox and deliver them to the user's sessions in one message a gateway."""
        log = f"inbox/{lane}"
        runs: list[Run] = []
        for _ in range(times):
            seq = len(self.logs[user, log]) + len(runs) + 1
            ts = int(time.time() * 1000)
            record = records.Notification(user=user, body=body)
            frame = frames.notification_frame(record, log=log, seq=seq, n=seq, id_=f"id-{seq}", ts_ms=ts)
            runs.append(Run(log, seq, seq, ts, frame))
        self.logs[user, log] += runs
        by_gateway: defaultdict[str, list[str]] = defaultdict(list)
        for session in self.sessions.values():
            if session.user == user:
                by_gateway[session.gateway].append(session.session)
        for gateway, sessions in by_gateway.items():
            partition = partition_of(user, PARTITIONS)
            await self.publish(gateway, partition, deliveries=[Delivery(user, sessions, runs)])
