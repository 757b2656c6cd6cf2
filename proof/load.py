"""A producer that writes down what it asked Kafka for, and what became of it."""

import asyncio
import itertools
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from proof.history import Failed, History, Produce, Produced, Unknown

_encode = msgspec.json.Encoder().encode
_STOPS_WITHIN: Final = 10.0  # s
_RENEW_EVERY: Final = 1.0  # s
_REFUSED: Final = (MessageSizeTooLargeError,)  # nothing was sent


class Operation(msgspec.Struct, frozen=True):
    """An acknowledged record and who is to get it."""

    user: str
    lane: str
    id: str
    at: float  # s since the history began, when Kafka acknowledged it


class Load:
    """Produces notifications to the topics of `prefix` on `brokers`; a context.

    An operation that Kafka has not answered after `patience` s is unknown. `owed` holds what devices have to get: the
    acknowledged records for all devices without an expiry. `beside` is another load of the same history, which then
    counts and is owed what this one produces, too: a second producer.
    """

    def __init__(
        self, history: History, brokers: str, prefix: str, *, patience: float = 10.0, beside: "Load | None" = None
    ) -> None:
        self.owed: defaultdict[tuple[str, str], list[Operation]] = beside.owed if beside else defaultdict(list)
        self.counts: dict[str, int] = beside.counts if beside else {"produced": 0, "failed": 0, "unknown": 0}
        self._history = history
        self._brokers = brokers
        self._prefix = prefix
        self._patience = patience
        self.operations: Iterator[int] = beside.operations if beside else itertools.count(1)
        self._run = secrets.token_hex(3)
        self._producer: Any = None
        self._pending: set[asyncio.Task[None]] = set()
        self._renewing = asyncio.Lock()
        self._renew_at = 0.0
        self.counted: dict[str, int] = {}  # by lane: where the offsets of a topic that was made again count on

    async def __aenter__(self) -> Self:
        self._producer = await self._new_producer()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.settle()
        await _stop(self._producer)

    async def _new_producer(self) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._brokers,
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            request_timeout_ms=int(self._patience * 1000),
            retry_backoff_ms=50,
        )
        try:
            await producer.start()
        except BaseException:
            await _stop(producer)
            raise
        return producer

    def send(
        self,
        user: str,
        lane: str = "normal",
        *,
        id: str = "",  # noqa: A002 - the field's name
        expires_in: float = 0,
        partition: int | None = None,
        **fields: Any,
    ) -> str:
        """Produce one notification without waiting for Kafka; return its id.

        `fields` are those of the record; `partition` is where it is written, its home if it is None.
        """
        id_ = id or f"{self._run}-{next(self.operations)}"
        value: dict[str, Any] = {"id": id_, "user": user, "kind": "order.paid", "title": "Paid", "body": "x" * 60}
        expires = int((time.time() + expires_in) * 1000) if expires_in else 0
        if expires:
            value["expires_at"] = datetime.fromtimestamp(expires / 1000, UTC).isoformat()
        produce = self._produce(user, lane, id_, expires=expires, **fields)
        self._spawn(produce, _encode({**value, **fields}), partition)
        return id_

    def poison(self, user: str, value: bytes, lane: str = "normal") -> int:
        """Produce a record that is no notification and return the number of the operation."""
        produce = self._produce(user, lane, f"{self._run}-poison-{next(self.operations)}", poison=True)
        self._spawn(produce, value)
        return produce.op

    def _produce(self, user: str, lane: str, id_: str, **more: Any) -> Produce:
        event = Produce(
            at=self._history.now(),
            op=next(self.operations),
            user=user,
            lane=lane,
            id=id_,
            wall=int(time.time() * 1000),
            device=more.get("device", ""),
            expires=more.get("expires", 0),
            collapse=more.get("collapse_key", ""),
            poison=more.get("poison", False),
        )
        self._history.add(event)
        return event

    def _spawn(self, produce: Produce, value: bytes, partition: int | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(produce, value, partition))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _deliver(self, produce: Produce, value: bytes, partition: int | None) -> None:
        op, producer = produce.op, self._producer
        try:
            async with asyncio.timeout(self._patience):
                sent = await producer.send(
                    f"{self._prefix}notifications.{produce.lane}", value, key=produce.user.encode(), partition=partition
                )
                met = await asyncio.shield(sent)
        except _REFUSED as exc:
            self._count("failed")
            self._history.add(Failed(at=self._history.now(), op=op, error=type(exc).__name__))
        except (KafkaError, TimeoutError, asyncio.CancelledError) as exc:
            self._count("unknown")
            self._history.add(Unknown(at=self._history.now(), op=op, error=type(exc).__name__))
            if isinstance(exc, asyncio.CancelledError):
                raise
            await self._renew(producer)
        else:
            self._count("produced")
            now = self._history.now()
            offset = met.offset + self.counted.get(produce.lane, 0)
            self._history.add(Produced(at=now, op=op, partition=met.partition, offset=offset, ts=met.timestamp or 0))
            if not (produce.device or produce.expires or produce.poison):
                owed = Operation(produce.user, produce.lane, produce.id, now)
                self.owed[produce.user, f"inbox/{produce.lane}"].append(owed)

    async def _renew(self, failed: Any) -> None:
        """Take another producer: one whose batch has failed may refuse all that follow."""
        async with self._renewing:
            if self._producer is not failed or time.monotonic() < self._renew_at:
                return
            self._renew_at = time.monotonic() + _RENEW_EVERY
            try:
                self._producer = await self._new_producer()
            except (KafkaError, TimeoutError):  # Kafka is away; the next operation that fails tries again
                return
        await _stop(failed)

    def _count(self, what: str) -> None:
        self.counts[what] += 1

    @property
    def acknowledged(self) -> int:
        """How many operations Kafka has acknowledged."""
        return self.counts["produced"]

    async def steady(
        self,
        rate: float,
        seconds: float,
        users: Sequence[str],
        lanes: Mapping[str, float],
        *,
        seed: int = 0,
        longer: Callable[[], bool] = lambda: False,
    ) -> None:
        """Produce at a steady rate, by the clock: what falls behind is caught up. `lanes` are shares.

        Ends after `seconds`, or later, when `longer` says no.
        """
        dice = random.Random(seed)  # noqa: S311 - a load, no secret
        names, shares = list(lanes), list(lanes.values())
        begin, sent = time.monotonic(), 0
        while (now := time.monotonic() - begin) < seconds or longer():
            while sent < now * rate:
                self.send(dice.choice(users), dice.choices(names, shares)[0])
                sent += 1
            await asyncio.sleep(min(0.005, 1 / rate))

    async def settle(self) -> None:
        """Return when Kafka has answered, or not answered in time, to all operations."""
        while self._pending:
            await asyncio.wait(set(self._pending))


async def _stop(producer: Any) -> None:
    try:
        async with asyncio.timeout(_STOPS_WITHIN):
            await producer.stop()
    except (KafkaError, TimeoutError):  # what it still held is unknown already
        return
