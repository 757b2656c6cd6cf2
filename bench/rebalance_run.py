"""One run of the rebalance check: a steady load, workers that come and go, and what is left of it at the end."""

import asyncio
import contextlib
import json
import random
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import rocksdict
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from bench.rebalance_check import Changes, Verdict, judge
from bench.rebalance_worker import PARTITIONS, ROLE, SESSION, Event, Out
from stack.child import Child
from tables.rocks import AS_OF

USERS: Final = 400
OFFSET_KEY: Final = b"__faust\0offset__"  # as Faust writes it, and so do we
SETTLE: Final = 25.0  # s without any movement after which what is missing counts as lost
AFTER: Final = 4.0  # s of load after the last step
STEPS: Final = ("join", "term", "start", "kill")
RANDOM_STEPS: Final = ("freeze", "flash", "back")

_encode = msgspec.json.Encoder().encode
_decode_out = msgspec.json.Decoder(Out).decode


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is made."""

    kind: str = "ours"  # or stock
    static: bool = False  # members have an instance id
    seconds: float = 18.0  # in which the steps happen
    rate: float = 400.0  # events a second
    seed: int = 1
    step: str = ""  # the last step; empty: one of RANDOM_STEPS


class Slot:
    """A place for a worker, with a data folder and an instance id of its own."""

    def __init__(self, number: int, child: Child) -> None:
        self.number = number
        self.child = child
        self.wanted = True  # the supervisor starts it again when it ends
        self.returns = False  # it was asked to end, and is started again


class Run:
    """One run on topics and a group of its own."""

    def __init__(self, brokers: str, folder: Path, options: Options) -> None:
        self.options = options
        self.prefix = f"rb{secrets.token_hex(4)}."
        self.folder = folder / self.prefix.rstrip(".")
        self.folder.mkdir(parents=True)
        self.group = f"{self.prefix}tocsin-{ROLE}"
        self.slots: dict[int, Slot] = {}
        self.steps: list[str] = []
        self.exits: list[int] = []  # codes of workers that ended unasked
        self.sent: Counter[str] = Counter()
        self.total = 0
        self._brokers = brokers
        self._random = random.Random(options.seed)
        self._begun = time.monotonic()
        self._outs: list[Out] = []
        self._back: set[asyncio.Task[None]] = set()
        self._calm = asyncio.Event()  # no more steps

    async def run(self) -> tuple[Verdict, dict[str, Any]]:
        """Return what was found, and what happened meanwhile."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._brokers)
        out = AIOKafkaConsumer(bootstrap_servers=self._brokers, auto_offset_reset="earliest")
        await admin.start()
        await out.start()
        watch: asyncio.Task[None] | None = None
        try:
            names = [f"{self.prefix}{name}" for name in ("events", "out", f"tocsin-{ROLE}-last-changelog")]
            await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
            out.assign([TopicPartition(names[1], number) for number in range(PARTITIONS)])
            self._start(0)
            watch = asyncio.create_task(self._supervise())
            await asyncio.gather(self._load(), self._unrest())
            stalled, settled = await self._settle(out, admin)
            watch.cancel()
            await self._end()
            return await self._judge(stalled), self._told(settled)
        finally:
            if watch is not None:
                watch.cancel()
            for slot in self.slots.values():
                slot.child.kill()
            await out.stop()
            await admin.close()

    def _told(self, settled: float) -> dict[str, Any]:
        return {
            "events": self.total,
            "settled_s": round(settled, 1),
            "exits": self.exits,
            "steps": " ".join(self.steps),
            "run": self.prefix.rstrip("."),
            **msgspec.structs.asdict(self.options),
        }

    # -- workers -------------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        slot = self.slots.get(number)
        if slot is None:
            instance = f"slot-{number}" if self.options.static else ""
            command = [sys.executable, "-m", "bench.rebalance_worker", self.options.kind, self._brokers, self.prefix,
                       str(self.folder / f"data-{number}"), instance]  # fmt: skip
            slot = Slot(number, Child(f"worker {number}", command, log=self.folder / f"worker-{number}.log"))
            self.slots[number] = slot
        slot.wanted, slot.returns = True, False
        slot.child.spawn()

    async def _supervise(self) -> None:
        """Start again what ended by itself, on what it left behind."""
        while True:
            await asyncio.sleep(0.3)  # how often it looks
            for slot in self.slots.values():
                if slot.wanted and not slot.child.running:
                    if not slot.returns:
                        self.exits.append(slot.child.code or 0)
                    self._start(slot.number)

    def _running(self) -> list[Slot]:
        return [slot for slot in self.slots.values() if slot.wanted and slot.child.running]

    def _free(self) -> int:
        return next(number for number in range(8) if number not in self.slots or not self.slots[number].child.running)

    async def _unrest(self) -> None:
        """Let workers come and go: every step once, one more at random, at random times."""
        steps = [*STEPS, self.options.step or self._random.choice(RANDOM_STEPS)]
        each = self.options.seconds / (len(steps) + 0.5)
        for number, step in enumerate(steps):
            due = self._begun + each * (number + 0.5 + self._random.random() * 0.8)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._step(step)
        while self._back:
            await asyncio.gather(*self._back)
        await asyncio.sleep(AFTER)  # under load, so that who was frozen does what it does late
        self._calm.set()

    def _step(self, step: str) -> None:
        self.steps.append(f"{step}@{time.monotonic() - self._begun:.1f}")
        if step in ("join", "start"):
            self._start(self._free())
            return
        if step == "flash":  # joins and leaves at once
            number = self._free()
            self._start(number)
            self._later(self._random.uniform(1.0, 3.0), lambda: self._leave(self.slots[number]))
            return
        slot = self._random.choice(self._running())
        if step == "term":
            self._leave(slot)
        elif step == "kill":
            slot.child.kill()
            slot.returns = True  # the supervisor starts it again
        elif step == "freeze":
            slot.child.send(signal.SIGSTOP)
            self._later(SESSION + 3, lambda: slot.child.send(signal.SIGCONT))
        else:  # its partitions go away and come back
            self._leave(slot)
            self._later(self._random.uniform(0.2, 2.0), lambda: self._return(slot))

    @staticmethod
    def _leave(slot: Slot) -> None:
        slot.wanted = False
        slot.child.send(signal.SIGTERM)

    @staticmethod
    def _return(slot: Slot) -> None:
        slot.wanted = slot.returns = True  # the supervisor starts it when it has ended

    def _later(self, seconds: float, what: Any) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            what()

        task = asyncio.create_task(wait())
        self._back.add(task)
        task.add_done_callback(self._back.discard)

    async def _end(self) -> None:
        for slot in self._running():
            self._leave(slot)
        for slot in self.slots.values():
            await asyncio.to_thread(slot.child.stop, 20.0)

    # -- load and result -----------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._brokers, enable_idempotence=True, linger_ms=5) as producer:
            waits = []
            while not self._calm.is_set():
                now = time.monotonic() - self._begun
                while self.total < now * self.options.rate:
                    user = f"u{self._random.randrange(USERS)}"
                    self.sent[user] += 1
                    event = Event(self.total, user, self.sent[user])
                    waits.append(await producer.send(f"{self.prefix}events", _encode(event), key=user.encode()))
                    self.total += 1
                await asyncio.sleep(0.01)  # the pace of the load
            await asyncio.gather(*waits)

    async def _settle(self, out: Any, admin: Any) -> tuple[int, float]:
        """Wait until everything came out and is committed, or nothing moves; returns (partitions that stall, s)."""
        begun = moved = time.monotonic()
        before: Any = None
        sources = [TopicPartition(f"{self.prefix}events", number) for number in range(PARTITIONS)]
        ends = await out.end_offsets(sources)
        while True:
            for records in (await out.getmany(timeout_ms=200)).values():
                self._outs += [_decode_out(record.value) for record in records]
            done = await self._committed(admin)
            behind = sum(ends[tp] > max(0, done.get(tp, 0)) for tp in sources)
            now = time.monotonic()
            if before != (before := (len(self._outs), done)):
                moved = now
            complete = not behind and len({row.id for row in self._outs}) == self.total
            if complete or now - moved > SETTLE:
                return behind, now - begun

    async def _committed(self, admin: Any) -> dict[TopicPartition, int]:
        try:
            found = await admin.list_consumer_group_offsets(self.group)
        except KafkaError:  # the group has no coordinator yet
            return {}
        return {place: at.offset for place, at in found.items()}

    async def _judge(self, stalled: int) -> Verdict:
        changelog = await self._changelog()
        return judge(
            sent=self.sent,
            total=self.total,
            outs=self._outs,
            stalled=stalled,
            changelog=changelog,
            files=list(self._files()),
        )

    async def _changelog(self) -> dict[int, Changes]:
        name = f"{self.group}-last-changelog"
        places = [TopicPartition(name, number) for number in range(PARTITIONS)]
        found: dict[int, list[tuple[int, bytes, bytes | None]]] = {number: [] for number in range(PARTITIONS)}
        consumer = AIOKafkaConsumer(bootstrap_servers=self._brokers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < ends[place] for place in places]):
                for place, records in (await consumer.getmany(timeout_ms=500)).items():
                    found[place.partition] += [(r.offset, r.key, r.value) for r in records]
        finally:
            await consumer.stop()
        return dict(found)

    def _files(self) -> Iterator[tuple[int, int, dict[bytes, bytes]]]:
        for path in sorted(self.folder.glob("data-*/**/last-*.db")):
            with contextlib.closing(rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True))) as files:
                held = {bytes(key): bytes(value) for key, value in files.items()}
            offset = int(held.pop(OFFSET_KEY, b"-1"))
            held.pop(AS_OF, None)
            yield int(path.stem.rpartition("-")[2]), offset, held


def line(verdict: Verdict, told: dict[str, Any]) -> str:
    """Return a run as one line of JSON."""
    return json.dumps({**msgspec.structs.asdict(verdict), **told})
