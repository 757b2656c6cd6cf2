"""A producer as upstream services have one: plain Kafka records, every acknowledgement noted."""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

_encode = msgspec.json.Encoder().encode


class Load:
    """Produces notifications; `options` go to the client of Kafka.

    `acknowledged` holds, by user, the ids that Kafka has taken, in order.
    """

    def __init__(self, brokers: str, **options: Any) -> None:
        self._kafka = {"bootstrap_servers": brokers, **options}
        self._producer: Any = None
        self.acknowledged: defaultdict[str, list[str]] = defaultdict(list)
        self.count = 0
        self._run = secrets.token_hex(3)  # so that the ids of two loads on one deployment are not the same

    async def __aenter__(self) -> "Load":
        for idempotent in (True, False):  # the embedded Kafka refuses producers that want to be
            self._producer = AIOKafkaProducer(**self._kafka, acks="all", enable_idempotence=idempotent, linger_ms=2)
            try:
                await self._producer.start()
                break
            except KafkaError:
                await self._producer.stop()
                if not idempotent:
                    raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, user: str, lane: str = "normal", **fields: Any) -> "asyncio.Future[Any]":
        """Produce one record; the future is done when Kafka has it."""
        self.count += 1
        id_ = f"{self._run}-{self.count}"
        value = {
            "id": id_,
            "user": user,
            "kind": "order.paid",
            "title": "Your order is paid",
            "body": "x" * 60,
            **fields,
        }
        future: asyncio.Future[Any] = await self._producer.send(
            f"notifications.{lane}", _encode(value), key=user.encode()
        )
        future.add_done_callback(lambda done: self._note(done, user, id_))
        return future

    def _note(self, done: "asyncio.Future[Any]", user: str, id_: str) -> None:
        if not done.cancelled() and done.exception() is None:
            self.acknowledged[user].append(id_)

    async def burst(self, users: Iterable[str], lane: str = "normal") -> None:
        """Produce one record for each user as fast as Kafka takes them, and return when it has all."""
        waits = [await self.send(user, lane) for user in users]
        await asyncio.gather(*waits)

    async def steady(self, rate: float, seconds: float, user: Callable[[int], str], lane: str = "normal") -> None:
        """Produce at a steady rate, by the clock: what falls behind is caught up."""
        begin, sent = time.monotonic(), 0
        waits: list[asyncio.Future[Any]] = []
        while (now := time.monotonic() - begin) < seconds:
            while sent < now * rate:
                waits.append(await self.send(user(sent), lane))
                sent += 1
            await asyncio.sleep(min(0.002, 1 / rate))
        await asyncio.gather(*waits)
