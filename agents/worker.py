"""A worker of the role inbox: its Faust app, its agents, and what they share."""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import mode
from aiokafka.errors import KafkaError
from faust.types import TP

from agents.acks import AcksAgent
from agents.answering import Answering
from agents.connections import ConnectionsAgent
from agents.cursors import CursorWriter
from agents.deadletters import DeadLetters
from agents.devices import Devices
from agents.inbox import InboxAgent, Lane
from agents.lease import Lease
from agents.ownership import Ownership
from agents.parts import Parts
from agents.publisher import Publisher
from agents.sources import Sources
from agents.standing import Standing
from agents.statuses import Statuses
from agents.sweep import Sweep
from agents.waiting import Budgets
from schemas.addresses import host_port
from schemas.errors import TocsinError
from schemas.logs import LANES
from store.port import Store
from streams.app import declare_agent, make_app
from streams.merging import MergingRunner
from streams.producer import BatchProducer
from streams.runner import Batch, Reject, Runner
from streams.settings import Settings
from streams.topics import Topics
from streams.turnstile import Beside, Turnstile
from tables.connections import ConnectionTable
from tables.logs import LogTable, subscribe_to_changelog
from tables.scratch import Scratch
from telemetry import garbage
from telemetry.health import start_health
from telemetry.watchdog import Watch, Watchdog
from telemetry.worker import WorkerMetrics

log = logging.getLogger(__name__)

ROLE: Final = "inbox"
PRIORITIES: Final = {"connections": 0, "critical": 1, "normal": 2, "bulk": 3, "acks": 4}
LIVE: Final = (PRIORITIES["critical"], PRIORITIES["normal"])
RESTS: Final = {"bulk": LIVE}  # `bulk` takes half of the time at most while `critical` or `normal` have work
# s that a batch aims to take
SLICES: Final = {"connections": 0.02, "critical": 0.04, "normal": 0.04, "bulk": 0.02, "acks": 0.01}


TORN: Final = "a source without its changelog"
PROBE: Final = 5.0  # s between looks at whether Kafka is why work does not go on


class InboxWorker:
    """The parts of one worker process, put together; `app` is the Faust app to run, `backends` starts before it."""

    def __init__(self, settings: Settings, topics: Topics, store: Store) -> None:
        self.settings = settings
        self._topics = topics
        self._partitions = topics.profile(settings.profile).partitions
        self.store = store
        self.name = settings.instance or f"{socket.gethostname()}-{os.getpid()}"
        self.app = make_app(settings, ROLE, partitions=self._partitions)
        self.producer = BatchProducer(settings.kafka_options(), idempotent=settings.idempotence)
        self.metrics = WorkerMetrics()
        stream = f"{self.name}-{time.time_ns():x}"
        self.publisher = Publisher(settings.redis_url(), settings.prefix, stream, self.metrics)
        self.ownership = Ownership(store, ROLE, self.name)
        self.standing = Standing(self.name, self.metrics)
        self.lease = Lease(
            settings.redis_url(), settings.prefix, self.name, lambda: self.standing.lease(len(self.ownership.epochs))
        )
        self.cursors = CursorWriter(store, self.metrics.refused_values.add)
        self._turnstile = Turnstile()
        self.app.consumer.exact_ends = settings.exact_ends()
        self._sources = Sources(self.app.consumer.highwaters, exact=settings.exact_ends())
        self.watch = Watch(settings.stuck)
        subscribe_to_changelog(self.app, partitions=self._partitions)
        self._limits = {lane: settings.limit(lane) for lane in LANES}
        self._worker_limit = settings.limit("worker")
        self._parts = Parts(
            store=store,
            producer=self.producer,
            publisher=self.publisher,
            ownership=self.ownership,
            dead_letters=DeadLetters(f"{settings.prefix}dead-letters", self.metrics),
            statuses=Statuses(f"{settings.prefix}statuses", self.metrics),
            sources=self._sources,
            logs=LogTable(Scratch(Path(self.app.conf.datadir) / "logs")),
            connections=ConnectionTable(self.app, partitions=self._partitions, left_out=self._left_out),
            metrics=self.metrics,
        )
        self.metrics.cursors.set_function(self.cursors.waiting)
        self.metrics.emitting.set_function(lambda: self.producer.emitting)
        self.app.consumer.watcher = self
        self.sweep = Sweep(
            self._parts.connections, self.producer, self.publisher, self.ownership, self._turnstile, self.metrics
        )
        self.answering = self._answering()
        self.backends = Backends(self)

    def _answering(self) -> Answering:
        settings = self.settings
        beside = Beside(self._turnstile, LIVE, lambda: self.watch.goes_on("connections"))
        devices = Devices(self.store, self.metrics, limit=settings.limit_user_devices, days=settings.device_ttl)
        budgets = Budgets(settings.limit("user_rows"))
        return Answering(
            self._parts, self.cursors, devices, budgets, beside, backlog=settings.backlog, watch=self.watch
        )

    def declare(self, incarnations: Mapping[str, int]) -> None:
        """Declare the agents; `incarnations` are the store's, by topic with prefix."""
        sessions = self.settings.limit_user_sessions
        connections = ConnectionsAgent(
            self._parts, self.answering, self.cursors, partitions=self._partitions, sessions=sessions
        )
        runner = self._runner("connections", connections.handle, connections.reject)
        self._agent("connections", "connections", runner)
        self._agent("acks", "acks", self._merging())
        self.app.consumer.loose.add(f"{self.settings.prefix}acks")  # workers of before do not subscribe to it
        for name in LANES:
            inbox = self._inbox(name, incarnations)
            self._agent(name, f"notifications.{name}", self._runner(name, inbox.handle, inbox.reject))

    def _inbox(self, name: str, incarnations: Mapping[str, int]) -> InboxAgent:
        topic = f"notifications.{name}"
        full = f"{self.settings.prefix}{topic}"
        lane = Lane(
            name=name,
            topic=full,
            number=self._topics.number_of(topic),
            incarnation=incarnations.get(full, 1),
            partitions=self._partitions,
            limit=self._limits[name],
        )
        return InboxAgent(lane, self._parts)

    def _left_out(self, user: str, refusal: Exception) -> None:
        log.error("the sessions of user %r are left out: %s", user, refusal)
        self.metrics.refused_values.add("sessions")

    def _runner(self, name: str, handler: Callable[[Batch], Awaitable[None]], reject: Reject) -> Runner:
        return Runner(
            self.app,
            self._turnstile,
            handler,
            name=name,
            priority=PRIORITIES[name],
            seconds=SLICES[name],
            metrics=self.metrics,
            rests=RESTS.get(name, ()),
            limit=self._worker_limit if name == "bulk" else None,
            watch=self.watch,
            reject=reject,
            stalls=self.standing.of(name),
        )

    def _merging(self) -> MergingRunner:
        return MergingRunner(
            self.app,
            self._turnstile,
            AcksAgent(self._parts, self.cursors).merge,
            flush=self.cursors.flushed,
            waiting=self.cursors.waiting,
            name="acks",
            priority=PRIORITIES["acks"],
            seconds=SLICES["acks"],
            metrics=self.metrics,
            rests=tuple(PRIORITIES.values()),
            watch=self.watch,
            stalls=self.standing.of("acks"),
        )

    def _agent(self, name: str, topic: str, runner: Runner) -> None:
        async def agent(stream: Any) -> None:
            await runner(stream)

        declare_agent(self.app, name, f"{self.settings.prefix}{topic}", agent)
        self.app.consumer.priorities[f"{self.settings.prefix}{topic}"] = PRIORITIES[name]

    # -- AssignmentWatcher ---------------------------------------------------------------------------------------------

    def handing_over(self) -> None:
        """Write the cursors now: the records that brought them are acked then."""
        self.cursors.hurry()

    def handed_over(self) -> None:
        """Own nothing."""
        self.ownership.release()
        self.publisher.own({})
        self._sources.forget()
        self.answering.forget()
        self._parts.logs.clear()
        self.tore(set())
        self.metrics.partitions.set(0)

    def tore(self, sources: set[TP]) -> None:
        """Let it be seen; if it lasts, the watchdog ends this worker, and the group shares out anew."""
        self.metrics.torn.set(len(sources))
        if sources:
            self.watch.alive(TORN)
        else:
            self.watch.done(TORN)

    async def took_over(self, partitions: set[int]) -> None:
        """Claim the partitions, tell the gateways, and let the batches go on."""
        self.cursors.resume()
        try:
            await self.ownership.claim(partitions)
        except TocsinError as exc:  # it says what to do
            log.critical("%s", exc)
            await self.app.crash(exc)
            return
        self.publisher.own(self.ownership.epochs)
        self.metrics.partitions.set(len(partitions))
        await self.publisher.beat()
        log.info("owns partitions %s", sorted(partitions))

    def deleted(self, tp: TP, first: int, last: int) -> None:
        """Count it, and let `doctor` see it."""
        self.standing.deleted(tp, first, last)

    async def look_at_kafka(self) -> None:
        """Tell the watchdog, until cancelled, when work waits for a Kafka that is away: the producer waits for ever."""
        pause = min(PROBE, self.watch.limit / 6)
        while True:
            await asyncio.sleep(pause)
            if self.watch.longest() > pause and not await self.producer.reachable(pause):
                self.watch.all_alive()

    def not_ready(self) -> str | None:
        """Return why this worker does nothing useful yet; None: it is ready."""
        return None if self.ownership.claimed else "no partitions are assigned"


class Backends(mode.Service):  # type: ignore[misc]  # mode has no type information here
    """The connections of a worker; started before its Faust app and stopped after it."""

    def __init__(self, worker: InboxWorker) -> None:
        super().__init__()
        self._worker = worker
        self._opened = contextlib.AsyncExitStack()
        self._crash: asyncio.Future[None] | None = None  # kept, so that it is not collected

    async def on_start(self) -> None:
        """Connect to the store and to Kafka, declare the agents, begin to beat.

        What cannot be connected to ends the process with one line and exit code 1.
        """
        try:
            await self._open()
        except (TocsinError, KafkaError, OSError) as exc:
            log.critical("the worker cannot start: %s", exc)
            raise SystemExit(1) from None  # anything else would be reported by Faust, with a traceback

    async def _open(self) -> None:
        worker, opened = self._worker, self._opened
        opened.enter_context(Watchdog(worker.watch, "worker"))
        host = worker.settings.metrics_host
        checks = {"partitions": worker.not_ready, "lanes": worker.standing.not_ready}
        health = await start_health(worker.settings.metrics_port, checks, host=host)
        opened.push_async_callback(health.close)
        log.info("metrics and health on http://%s", host_port(host, health.port))
        await worker.store.open()
        opened.push_async_callback(worker.store.close)
        worker.declare(await worker.store.incarnations())
        opened.push_async_callback(worker.publisher.close)
        opened.push_async_callback(worker.producer.stop)  # needed also where its start fails half-way
        await worker.producer.start()
        opened.push_async_callback(worker.lease.close)
        for work in (
            worker.publisher.beat_for_ever(),
            worker.answering.answer_for_ever(),
            worker.sweep.run(),
            worker.look_at_kafka(),
            worker.standing.look_for_ever(),
            worker.lease.renew_for_ever(),
            garbage.collect_for_ever(),
        ):
            opened.callback(self._spawn(work).cancel)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task for ever; if it fails, that is a fault of ours, and the worker ends."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.critical("a task of this worker failed", exc_info=error)
            self._crash = asyncio.ensure_future(self._worker.app.crash(error))

    async def on_stop(self) -> None:
        """Disconnect."""
        await self._opened.aclose()
