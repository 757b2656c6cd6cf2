"""A worker that counts events by user, to see what rebalances cost: ours, or stock Faust for comparison.

`python -m bench.rebalance_worker ours|stock BROKERS PREFIX FOLDER INSTANCE`: a process of its own, so that it can be
frozen and killed. It reads `{PREFIX}events`, writes what it made of each event to `{PREFIX}out`, and keeps in the table
`last` how far each user is. A repeat is written again and counted once.
"""

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import faust
import msgspec
import uvloop
from faust.types import TP

from streams.app import declare_agent, make_app
from streams.producer import BatchProducer, Emit
from streams.runner import Batch, Runner
from streams.settings import Settings
from streams.turnstile import Turnstile
from tables.rocks import RocksTable
from telemetry.logs import setup_logging
from telemetry.worker import WorkerMetrics

PARTITIONS: Final = 8
ROLE: Final = "count"
SESSION: Final = 6.0  # s after which the group goes on without a silent member


class Event(msgspec.Struct):
    """What is produced: a number of its own, and which one of its user it is (1, 2, 3 ...)."""

    id: int
    user: str
    seq: int


class Last(msgspec.Struct, array_like=True):
    """A value of the table: the last event of a user, how many were counted, and the epoch of who wrote it."""

    seq: int = 0
    count: int = 0
    epoch: int = 0


class Out(msgspec.Struct):
    """What comes out of an event; `before` is the value of its user that the worker had."""

    id: int
    user: str
    seq: int
    before: Last


decode_event = msgspec.json.Decoder(Event).decode
decode_last = msgspec.json.Decoder(Last).decode
_encode = msgspec.json.Encoder().encode


def applied(last: Last, event: Event, epoch: int) -> Last:
    """Return the value after an event; a repeat changes nothing but the epoch."""
    if event.seq <= last.seq:
        return Last(last.seq, last.count, epoch)
    return Last(event.seq, last.count + 1, epoch)


class Counter:
    """Our worker: the product's app, consumer, runner, producer and table, without the product's rules."""

    def __init__(self, settings: Settings) -> None:
        self.app = make_app(settings, ROLE, partitions=PARTITIONS)
        self.app.consumer.watcher = self
        self.producer = BatchProducer(settings.kafka_options(), idempotent=settings.idempotence)
        self.out = f"{settings.prefix}out"
        self._epoch = 0  # ms since 1970: on one machine the clock orders the owners
        self._owns = asyncio.Event()
        self._table = RocksTable(self.app, "last", partitions=PARTITIONS)
        runner = Runner(
            self.app,
            Turnstile(),
            self.handle,
            name="count",
            priority=1,
            seconds=0.04,
            metrics=WorkerMetrics(),
            reject=self.reject,
        )

        async def agent(stream: Any) -> None:
            await runner(stream)

        declare_agent(self.app, "count", f"{settings.prefix}events", agent)

    def handing_over(self) -> None:
        """Nothing is in work beside the batch."""

    def handed_over(self) -> None:
        """Own nothing."""
        self._owns.clear()

    def tore(self, sources: set[TP]) -> None:
        """Do nothing: the consumer logs it."""

    def deleted(self, tp: TP, first: int, last: int) -> None:
        """Do nothing: the consumer logs it."""

    async def took_over(self, _partitions: set[int]) -> None:
        """Write under a new epoch."""
        self._epoch = time.time_ns() // 1_000_000
        self._owns.set()

    async def reject(self, _message: Any, refusal: Exception) -> None:
        """End: nothing of this measurement is refused."""
        raise AssertionError from refusal

    async def handle(self, batch: Batch) -> None:
        """Write what comes out, then the marks; both are acknowledged when this returns."""
        await asyncio.wait_for(self._owns.wait(), 1.0)
        out: list[Emit] = []
        changed: dict[int, dict[str, Last]] = {}
        for message in batch.messages:
            event = decode_event(message.value)
            states = changed.setdefault(message.partition, {})
            before = states.get(event.user) or self._read(message.partition, event.user)
            out.append(Emit(self.out, message.key, _encode(Out(event.id, event.user, event.seq, before))))
            states[event.user] = applied(before, event, self._epoch)
        await self.producer.emit(out)
        await self._table.write(
            self.producer,
            {
                partition: [(user.encode(), _encode(last)) for user, last in states.items()]
                for partition, states in changed.items()
            },
        )

    def _read(self, partition: int, user: str) -> Last:
        value = self._table.get(partition, user.encode())
        return Last() if value is None else decode_last(value)


class Opened(faust.Service):  # type: ignore[misc]  # Faust has no type information here
    """The connections of our worker."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self._counter = counter

    async def on_start(self) -> None:
        """Connect."""
        await self._counter.producer.start()

    async def on_stop(self) -> None:
        """Disconnect."""
        await self._counter.producer.stop()


def stock_app(brokers: str, prefix: str, folder: Path, instance: str) -> Any:
    """Return the same in plain Faust: its own consumer, a plain agent, a plain table, its settings as ours are."""
    app = faust.App(
        f"{prefix}tocsin-{ROLE}",
        broker=f"kafka://{brokers}",
        store="rocksdb://?driver=rocksdict",
        datadir=str(folder),
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=PARTITIONS,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        broker_session_timeout=SESSION,
        broker_heartbeat_interval=SESSION / 3.3,
        broker_request_timeout=15.0,
        broker_commit_interval=0.5,
        consumer_group_instance_id=instance or None,
        stream_wait_empty=True,
        producer_acks=-1,
    )
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    events, out = (app.topic(f"{prefix}{name}", **raw) for name in ("events", "out"))
    table = app.Table("last", partitions=PARTITIONS, key_type=bytes, value_type=bytes)

    async def count(stream: Any) -> None:
        async for one in stream.events():
            event = decode_event(one.value)
            value = table.get(one.key)
            before = Last() if value is None else decode_last(value)
            await (await out.send(key=one.key, value=_encode(Out(event.id, event.user, event.seq, before))))
            table[one.key] = _encode(applied(before, event, 0))

    app.agent(events, concurrency=1, name="count")(count)
    return app


def main(kind: str, brokers: str, prefix: str, folder: str, instance: str) -> None:
    """Run a worker until a signal ends it."""
    setup_logging("info", f"{kind}-{instance or os.getpid()}")
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    Path(folder).mkdir(parents=True, exist_ok=True)
    services: list[Any] = []
    if kind == "stock":
        app = stock_app(brokers, prefix, Path(folder), instance)
    else:
        settings = Settings(
            kafka=brokers, prefix=prefix, data=folder, instance=instance, session_timeout=SESSION, log_level="info"
        )
        counter = Counter(settings)
        app, services = counter.app, [Opened(counter)]
    app.tables.on_actives_ready = lambda: logging.getLogger("bench").info("worker ready")
    process = faust.Worker(app, *services, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    process.spinner = None
    process.execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
