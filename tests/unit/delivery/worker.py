"""A worker of the model: the real agents, publisher and progress, stepped from effect to effect."""

import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, cast

from prometheus_client import CollectorRegistry

from agents.acks import AcksAgent
from agents.answering import Answering
from agents.connections import ConnectionsAgent
from agents.cursors import CursorWriter, cursors_of
from agents.deadletters import DeadLetters
from agents.devices import Devices
from agents.inbox import InboxAgent, Lane
from agents.parts import Parts
from agents.publisher import Publisher
from agents.sources import Sources
from agents.statuses import Statuses
from agents.waiting import Budgets
from schemas.errors import StoreError
from schemas.logs import LANES
from streams.failures import OUTSIDE
from streams.inbox import LogState
from streams.limits import Limit
from streams.progress import Admission, Progress
from streams.runner import Batch
from tables.connections import ConnectionTable
from tables.logs import LogTable
from telemetry.worker import WorkerMetrics
from tests.unit.delivery.servers import PARTITIONS, TP, Kafka, Message, Redis, Rocks, Store

TOPICS = ("connections", "acks", *(f"notifications.{lane}" for lane in LANES))
METRICS = WorkerMetrics(CollectorRegistry())
AT_ONCE = 4  # works beside the turnstile


class Logs(LogTable):
    """The table of a worker process; nearly all of it is in files."""

    def __init__(self) -> None:
        super().__init__(cast("Any", Files()))


class Files(dict[bytes, bytes]):
    def write(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        self.update(items)


class Connections(ConnectionTable):
    def __init__(self, rocks: Rocks) -> None:
        self._begin(cast("Any", rocks))


class Cursors(CursorWriter):
    """Writes at once where the real one waits 2 s; the rest is the same."""

    async def flushed(self) -> None:
        group, _ = self._take()
        self._writing.append(group)
        try:
            await self._store.put_cursors(cursors_of(group))
        except StoreError:
            self._restore(group)
            raise
        finally:
            self._writing.remove(group)


class Owned:
    """The epochs of an assignment whose claim is done."""

    def __init__(self, epochs: dict[int, int]) -> None:
        self.epochs = epochs

    async def held(self) -> dict[int, int]:
        return self.epochs


class Job:
    """Work that is stepped; `done` is called when it has come to its end."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], done: Callable[[], None]) -> None:
        self._work = work
        self._done = done
        self._running: Coroutine[Any, Any, None] | None = None
        self.failures = 0

    def step(self) -> bool:
        """Go on up to the next effect; True: there is nothing more to do. If a server is away it begins again."""
        if self._running is None:
            self._running = self._work()
        try:
            self._running.send(None)
        except StopIteration:
            self._done()
            return True
        except OUTSIDE:
            self._running = None
            self.failures += 1
        return False

    def close(self) -> None:
        if self._running is not None:
            self._running.close()


class AtOnce:
    """Lets answers go as they come: it is steps that order them here."""

    def turn(self, *, urgent: bool = True) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()


def publisher_of(stream: str, redis: Redis) -> Publisher:
    publisher = Publisher("redis://127.0.0.1:1/0", "", stream, METRICS)  # never connects
    publisher._redis = redis
    return publisher


class Worker:
    """A worker under one assignment; what it does when it was replaced and does not know is its own affair."""

    inbox: type[InboxAgent] = InboxAgent  # a test puts a broken one here
    acks_first = False

    def __init__(
        self,
        kafka: Kafka,
        store: Store,
        publisher: Publisher,
        logs: Logs,
        partitions: Sequence[int],
        *,
        backlog: int,
        limits: Mapping[str, Limit],
    ) -> None:
        self.kafka = kafka
        self.publisher = publisher
        self.logs = logs
        self.partitions = list(partitions)
        self.epochs = {partition: store.claimed() for partition in partitions}
        publisher.own(self.epochs)
        parts = Parts(
            store=cast("Any", store),
            producer=cast("Any", kafka),
            publisher=publisher,
            ownership=cast("Any", Owned(self.epochs)),
            dead_letters=DeadLetters("dead-letters", METRICS),
            statuses=Statuses("statuses", METRICS),
            sources=Sources(kafka.ends),
            logs=logs,
            connections=Connections(Rocks("connections", kafka.changelogs, partitions)),
            metrics=METRICS,
        )
        self.cursors = Cursors(cast("Any", store))
        devices = Devices(cast("Any", store), METRICS, limit=1_000, days=90.0)
        budgets = Budgets(Limit(2_000, 1_000_000))
        self.answering = Answering(parts, self.cursors, devices, budgets, cast("Any", AtOnce()), backlog=backlog)
        self.acks = AcksAgent(parts, self.cursors)
        self._merged: dict[TP, int] = {}  # acks in memory: up to where, by partition
        self._flushing = self._serving = False
        self.agents: dict[str, Any] = {
            "connections": ConnectionsAgent(parts, self.answering, self.cursors, partitions=PARTITIONS, sessions=100)
        }
        for number, name in enumerate(LANES, 1):
            lane = Lane(name, f"notifications.{name}", number, 1, PARTITIONS, limits.get(name))
            self.agents[lane.topic] = self.inbox(lane, parts)
        self.progress: dict[TP, Progress] = {}
        for topic in TOPICS:
            for partition in partitions:
                progress = self.progress[TP(topic, partition)] = Progress()
                progress.start(kafka.committed[TP(topic, partition)], None)
        self.job: Job | None = None
        self.beside: list[Job] = []

    def take(self, topic: str, limit: int) -> bool:
        """Begin a batch of what waits in a topic; the turnstile lets one batch through at a time."""
        if self.job is not None:
            return False
        messages: list[Any] = []
        for tp, progress in self.progress.items():
            if tp.topic == topic:
                progress.begin_fetch()
                for message in self.kafka.logs[tp][cast("int", progress.wanted) :][: limit - len(messages)]:
                    assert progress.admit(message.offset) is Admission.DELIVER
                    messages.append(message)
        if not messages:
            return False
        if self.acks_first:
            self._ack(messages)
        if topic == "acks":
            work = self.acks.merge(messages)
            self.job = Job(cast("Any", work or nothing), lambda: self._remember(messages))
            return True
        batch = Batch(messages, 1)
        handle = self.agents[topic].handle
        self.job = Job(lambda: handle(batch), lambda: self._handled(batch))
        return True

    def _remember(self, messages: Sequence[Message]) -> None:
        """Let a flush ack what was merged: one at a time, as in a worker."""
        self._merged |= {message.tp: message.offset for message in messages}
        if not self._flushing:
            self._flush()

    def _flush(self) -> None:
        self._flushing = bool(self._merged)
        if self._flushing:
            merged, self._merged = self._merged, {}
            self.beside.append(Job(cast("Any", self.cursors.flushed), lambda: self._flushed(merged)))

    def _flushed(self, merged: dict[TP, int]) -> None:
        for tp, offset in merged.items():
            self.progress[tp].ack_through(offset)
        self._flush()

    def _serve(self) -> None:
        """Let what sessions asked for be answered."""
        if not self._serving and self.answering.waiting.due() == 0.0:
            self._serving = True
            self.beside.append(Job(cast("Any", self.answering.answer_some), self._served))

    def _served(self) -> None:
        self._serving = False

    def _handled(self, batch: Batch) -> None:
        held = {id(message) for part, _ in batch.held for message in part}
        self._ack([message for message in batch.messages if id(message) not in held])
        for part, work in batch.held:
            self.beside.append(Job(cast("Any", work), lambda part=part: self._ack(part)))  # type: ignore[misc]  # the loop's own part

    def _ack(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.progress[message.tp].ack([message.offset])

    def step(self, times: int = 1) -> None:
        """Go on with the batch."""
        for _ in range(times):
            if self.job is not None and self.job.step():
                self.job = None

    def step_beside(self, at: int, times: int = 1) -> None:
        """Go on with a work beside the turnstile."""
        for _ in range(times):
            self._serve()
            waiting = self.beside[:AT_ONCE]
            if not waiting:
                return
            job = waiting[at % len(waiting)]
            if job.step():
                self.beside.remove(job)

    def work(self) -> None:
        """Do all there is to do, until a server is away."""
        busy = True
        while busy:
            self._serve()
            while jobs := [job for job in (self.job, *self.beside[:1]) if job is not None]:
                failures = sum(job.failures for job in jobs)
                self.step()
                self.step_beside(0)
                if sum(job.failures for job in jobs) > failures:
                    return
                self._serve()
            busy = any(self.take(topic, 100) for topic in TOPICS)

    def commit(self) -> None:
        for tp, progress in self.progress.items():
            offset = progress.committable()
            if offset is not None:
                self.kafka.committed[tp] = progress.committed = offset

    def end(self) -> None:
        """Stop for ever, wherever it is."""
        for job in (self.job, *self.beside):
            if job is not None:
                job.close()
        self.job = None
        self.beside.clear()


async def nothing() -> None:
    """Do nothing."""


def drive(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end."""
    job = Job(lambda: work, lambda: None)
    while not job.step():
        pass


__all__ = ["LogState", "Logs", "Worker", "drive", "publisher_of"]
