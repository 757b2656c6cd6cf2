"""The whole of delivery in one process and one thread: producers, Kafka, workers, the bus, gateways, devices."""

import json
from collections import defaultdict
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest.mock import patch

from prometheus_client import CollectorRegistry

from agents.publisher import Publisher
from gateway.auth import Claims
from gateway.bucket import Limits
from gateway.config import GatewayConfig
from gateway.hub import Hub
from gateway.peer import Peer
from schemas import bus
from schemas.limits import POSITION_HEADER
from schemas.logs import INBOX_LOGS, LANES
from schemas.rows import RECENT
from streams.inbox import anchored
from streams.limits import Limit
from streams.partitions import home_partition
from streams.producer import Emit
from telemetry.gateway import GatewayMetrics
from tests.unit.delivery.device import Device, Wire
from tests.unit.delivery.servers import PARTITIONS, TP, Clock, Concurrency, Kafka, Redis, Store
from tests.unit.delivery.worker import Logs, Worker, drive, publisher_of

DEVICES = (("ann", "phone"), ("ann", "web"), ("cat", "phone"), ("bob", "tv"))
METRICS = GatewayMetrics(CollectorRegistry())
BACKGROUND = 1.5  # s between two looks while all is well
CALM = 4.0  # s that all has to stay well


class Strict(Hub):
    """A hub that hides no fault of ours behind the session in which it shows."""

    def fail(self, peer: Peer, exc: Exception, now: float) -> None:
        raise exc

    def _dropped(self, session: str | None, exc: Exception) -> None:
        raise exc


class Gateway:
    """A gateway process: the real hub, and what is on its way to it."""

    def __init__(self, name: str, world: "World") -> None:
        config = GatewayConfig(id=name, kafka={}, redis="", secret="s" * 32, pace=world.pace)
        self.name = name
        self._world = world
        self.hub = Strict(config, PARTITIONS, METRICS, world.clock.time, lambda: None)
        self.online = False
        self.connect()

    @property
    def bus(self) -> list[bytes]:
        return self._world.redis.listening.get(self.name, [])

    def connect(self) -> None:
        """Subscribe to the bus, and hold the lease."""
        if not self.online:
            self.online = True
            self._world.redis.listening[self.name] = []
            self._world.redis.leases.add(self.name)
            self.hub.dispatch.suspect_all(self._world.clock.now)

    def disconnect(self) -> None:
        self.online = False
        self._world.redis.listening.pop(self.name, None)
        self._world.redis.leases.discard(self.name)

    def arrive(self, at: int = 0) -> None:
        message = bus.decode(self.bus.pop(at))
        assert not isinstance(message, bus.Inquiry)
        drive(self.hub.dispatch.take(message))

    def write(self, *, acks: bool = True, twice: bool = False) -> None:
        """Write what waits in the outbox, a second time where the first answer of Kafka was lost."""
        for partition in range(PARTITIONS):
            for topic in ("connections", "acks") if acks else ("connections",):
                records = self.hub.outbox.take(partition, acks=topic == "acks")
                for key, value in records * (2 if twice else 1):
                    self._world.kafka.append(Emit(topic, key, value, partition=partition))

    def tick(self) -> None:
        """What the hub does from time to time."""
        hub, now = self.hub, self._world.clock.now
        hub.dispatch.tick(now)
        hub.wheel.turn(now)
        hub._account(now)


class Entry(NamedTuple):
    """What a record makes of itself, by the protocol's words."""

    id: str
    title: str
    device: str
    key: str  # the collapse key
    limited: bool


class World:
    """Everything, and what a test may do to it."""

    worker: type[Worker] = Worker  # a test puts a broken one here
    logs: type[Logs] = Logs
    beats = True

    def __init__(self, backlog: int = 10_000, limit: Limit | None = None, pace: Limits | None = None) -> None:
        self.backlog, self.limit, self.pace = backlog, limit, pace
        self.clock = Clock()
        self.kafka, self.redis, self.store = Kafka(self.clock), Redis(), Store()
        self.acked: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.devices = [Device(user, name, self.acked) for user, name in DEVICES]
        self.gateways = [Gateway(f"g{number}", self) for number in range(2)]
        self.workers: list[Worker] = []
        self.zombies: list[Worker] = []
        self._numbered = 10
        self._patches = ExitStack()
        for module in ("publisher", "inbox", "answering"):
            self._patches.enter_context(patch(f"agents.{module}.time", self.clock))
        self._patches.enter_context(patch("tables.kept.KEPT", 2))
        self._patches.enter_context(patch("tables.logs.LEAVING", 2))
        self.concurrency = Concurrency()
        self._patches.enter_context(patch("agents.inbox.asyncio", self.concurrency))

    def close(self) -> None:
        for worker in (*self.workers, *self.zombies):
            worker.end()
        self._patches.close()

    def number(self) -> int:
        self._numbered += 1
        return self._numbered

    # Producers

    def produce(self, user: str, lane: str = "normal", *, partition: int | None = None, **more: Any) -> None:
        title = more.pop("title", None) or f"t{self.number():07}"
        value = {"user": user, "title": title, **more}
        self.kafka.append(Emit(f"notifications.{lane}", user.encode(), json.dumps(value).encode(), partition=partition))

    def entries(self, user: str, lane: str) -> list[Entry]:
        """The fold by the protocol's words: each entry that the topic's records make."""
        rows: list[Entry] = []
        full = 0  # when the budget of the limit is whole again, µs
        topic = f"notifications.{lane}"
        for message in self.kafka.logs[TP(topic, home_partition(user.encode(), PARTITIONS))]:
            if message.key != user.encode() or not (message.value or b"").startswith(b"{"):
                continue
            record = json.loads(message.value or b"")
            if "expires_at" in record and record["expires_at"].startswith("1970"):
                continue
            id_ = str(record.get("id") or dict(message.headers).get(POSITION_HEADER, b"").decode())
            if id_ and id_ in {before.id for before in rows[-RECENT:]}:
                continue
            limited = False
            if self.limit and lane == "bulk":
                now, share = round(message.timestamp * 1000) * 1000, self.limit.window // self.limit.count
                limited = full + share > now + self.limit.window
                full = full if limited else max(full, now) + share
            key, device = record.get("collapse_key", ""), record.get("device", "")
            rows.append(Entry(id_, "" if limited else record["title"][:8], device, key, limited))
        return rows

    # Workers

    def take_over(self, how: str = "clean", count: int = 1, *, restart: bool = True, by: Worker | None = None) -> None:
        """Give the partitions to `count` workers; the ones before end cleanly, crash, or stay as zombies.

        New processes take over, or the same ones (no `restart`), or the one that `by` was.
        """
        same = [by] if by else [] if restart or how == "zombie" else list(self.workers)
        processes = [(worker.publisher, worker.logs) for worker in same]
        for worker in self.workers:
            if how == "clean":
                worker.work()
                worker.commit()
            if how == "zombie":
                self.zombies.append(worker)
            else:
                worker.end()
        parts = [range(PARTITIONS)] if count == 1 else [[0], [1]]
        self.workers = []
        for number, part in enumerate(parts):
            publisher, logs = processes[number] if number < len(processes) else self._process()
            limits = {"bulk": self.limit} if self.limit else {}
            worker = self.worker(self.kafka, self.store, publisher, logs, part, backlog=self.backlog, limits=limits)
            self.workers.append(worker)
            self.beat(self.workers[-1])

    def _process(self) -> tuple[Publisher, Logs]:
        return publisher_of(f"w{self.number()}", self.redis), self.logs()

    def beat(self, worker: Worker) -> None:
        if self.beats:
            drive(worker.publisher.beat())
            drive(worker.publisher.look_after_gateways())

    # Gateways and devices

    def crash_gateway(self, gateway: Gateway) -> None:
        """It is gone, with its connections and what it had not written; another one takes its place."""
        gateway.disconnect()
        for device in self.devices:
            if device.wire is not None and device.wire.hub is gateway.hub:
                device.wire = None
        self.gateways[self.gateways.index(gateway)] = Gateway(f"g{self.number()}", self)

    def connect(self, device: Device, gateway: Gateway, *, hello: bool = True) -> None:
        if device.wire is not None:
            device.wire.lost()
        if not hello:
            device.forget()
        wire = Wire(device, gateway.hub)
        device.start(wire)
        claims = Claims(device.user, device.name, 1e9)
        wire.peer = gateway.hub.admit(wire, claims, hello=hello, now=self.clock.now)
        if hello:
            gateway.hub.receive(wire.peer, device.hello(), self.clock.now)

    def sync(self, device: Device, log: str, after: int, limit: int) -> None:
        if device.wire is not None and device.welcomed and not device.wire.slow and log in device.place:
            device.synced_from(log, after)
            device.wire.say(type="sync", log=log, after=after, limit=limit)

    def ack(self, device: Device, log: str) -> None:
        if device.wire is not None and device.welcomed and log in device.place:
            seq = min(device.place[log], device.cursor[log])
            self.acked[device.user, log] = max(self.acked[device.user, log], seq)
            device.wire.say(type="ack", log=log, seq=seq)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        for gateway in self.gateways:
            gateway.tick()

    # The end

    def flow(self) -> None:
        """One round in which everybody does what there is to do and nothing is lost."""
        for gateway in self.gateways:
            gateway.write()
        for worker in self.workers:
            worker.work()
            worker.commit()
        for gateway in self.gateways:
            while gateway.bus:
                gateway.arrive()
        for device in self.devices:
            for log in list(device.gap):
                self.sync(device, log, device.cursor[log], 1000)

    def heal(self) -> None:
        """End every fault: no zombies, no slow clients; everybody is connected."""
        for zombie in self.zombies:
            zombie.end()
        self.zombies.clear()
        self.redis.away = self.store.away = self.kafka.away = False
        if not self.workers:
            self.take_over()
        for gateway in self.gateways:
            gateway.connect()
        for device in self.devices:
            if device.wire is None:
                self.connect(device, self.gateways[0])
            elif device.wire.slow:
                device.wire.read_on()

    def settle(self, seconds: float = 90.0) -> None:
        """Let a healthy world run until every device has everything; fail if it takes longer than that."""
        begin, end = self.clock.now, self.clock.now + seconds
        while self.lacking() or self.clock.now < begin + CALM:
            assert self.clock.now < end, f"not within {seconds} s: {self.lacking()}"
            self.flow()
            for worker in self.workers:
                self.beat(worker)
            self.flow()
            self.pass_time(BACKGROUND)

    def lacking(self) -> list[str]:
        """What has not been done yet: entries that are not in the store, or not on a device."""
        found = []
        for device in self.devices:
            for log in INBOX_LOGS:
                wanted = len(self.entries(device.user, log.removeprefix("inbox/")))
                stored = self.store.ends[f"{log}/{device.user}"][1]
                has = device.cursor.get(log, self.acked[device.user, log])
                if not wanted == stored == has:
                    found.append(f"{device.user}/{device.name} {log}: {wanted} wanted, {stored} stored, {has} here")
        return found

    def check(self) -> None:
        """Every log is the fold of its topic, and every device holds every entry of it once, in order."""
        self._check_tables()
        for user in {device.user for device in self.devices}:
            for lane in LANES:
                rows = self.store.visible(f"inbox/{lane}/{user}")
                found = [(json.loads(row.frame)["title"][:8] if row.frame else "", row.device) for row in rows]
                assert found == [(entry.title, entry.device) for entry in self.entries(user, lane)]
                assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        for device in self.devices:
            for log in INBOX_LOGS:
                self._check_device(device, log)
        limited = sum(entry.limited for user in ("ann", "cat", "bob") for entry in self.entries(user, "bulk"))
        assert len(self.said("dropped")) == limited

    def _check_tables(self) -> None:
        """What a worker believes of a log is the fold of its rows."""
        for worker in self.workers:
            for partition, epoch in worker.epochs.items():
                for user in {device.user for device in self.devices}:
                    if home_partition(user.encode(), PARTITIONS) == partition:
                        for log in (f"inbox/{lane}/{user}" for lane in LANES):
                            state = worker.logs.get(log, epoch)
                            assert state in (None, anchored(epoch, self.store.head(log)))

    def _check_device(self, device: Device, log: str) -> None:
        wanted = self.entries(device.user, log.removeprefix("inbox/"))
        base = device.base.get(log, 0 if log in device.cursor else len(wanted))
        shown = dict(device.shown[log])
        assert list(shown) == sorted(shown)
        assert len(shown) == len(device.shown[log]), "shown twice"
        merged = self.said("merged")
        for seq, entry in enumerate(wanted[base:], base + 1):
            reason = device.skipped[log].get(seq)
            if seq in device.passed[log]:
                continue
            if entry.device not in ("", device.name):
                assert reason == "other_device"
            elif entry.limited:
                assert reason == "rate_limited"
            elif reason == "merged":  # then it was said, and a later one under the same key came
                assert json.loads(self.store.visible(f"{log}/{device.user}")[seq - 1].frame)["id"] in merged
                assert any(later.key == entry.key and not later.limited for later in wanted[seq:])
            else:
                assert shown.pop(seq) == entry.title
        assert not shown

    def said(self, state: str) -> set[str]:
        """The ids of which the topic of statuses says this."""
        logs = [log for tp, log in self.kafka.logs.items() if tp.topic == "statuses"]
        said = [json.loads(message.value or b"") for log in logs for message in log]
        return {status["id"] for status in said if status["state"] == state}
