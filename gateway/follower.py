"""Follows the topic `revocations`: reads all of it, then what is added, however often Kafka goes away meanwhile."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from links import unpacking
from links.kafka import guard
from schemas.errors import BadRecord, TocsinError
from schemas.limits import record_limits
from schemas.records import Revocation, decode_revocation

log = logging.getLogger(__name__)

BACKOFF: Final = 2.0  # s before Kafka is tried again
POLL_MS: Final = 500  # a poll returns after this time even if nothing has come
SILENCE: Final = 10.0  # s without an answer of Kafka after which it is not known whether something was revoked
REACH: Final = 10.0  # s in which the ends of the topic have to be known

Take = Callable[[Revocation], None]


class Source(Protocol):
    """Where revocations come from."""

    async def run(self, take: Take, caught_up: Callable[[], None]) -> None:
        """Hand on every revocation, call `caught_up` when all of now were, and go on until cancelled."""

    def problem(self) -> str | None:
        """Return why something that was revoked may not be known, None if all is."""


class Follower:
    """A `Source` on a real Kafka: a consumer without a group that begins at the beginning.

    `options` are those of every client of Kafka (`Settings.kafka_options`).
    """

    def __init__(self, options: Mapping[str, Any], topic: str) -> None:
        self._options = dict(options)
        self._topic = topic
        self._reason: str | None = "revocations have not been read yet"
        self._heard = float("-inf")
        self._answers: dict[Any, int | None] = {}  # when each partition's broker answered last, records or none

    def problem(self) -> str | None:
        """Return why something that was revoked may not be known, None if all is."""
        if self._reason is None and asyncio.get_running_loop().time() - self._heard > SILENCE:
            return f"Kafka has not said for {SILENCE:.0f} s whether something was revoked"
        return self._reason

    async def run(self, take: Take, caught_up: Callable[[], None]) -> None:
        """Hand on every revocation; begin anew, with what is known still in force, when the consumer fails."""
        said = ""
        unpacking.install(record_limits)
        while True:
            consumer = AIOKafkaConsumer(
                **self._options,
                group_id=None,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                metadata_max_age_ms=30_000,
            )
            guard(consumer._client)  # noqa: SLF001 - see there
            try:
                async with asyncio.timeout(REACH):
                    await self._begin(consumer)
                await self._catch_up(consumer, take)
                self._reason, said = None, ""
                caught_up()
                await self._follow(consumer, take)
            except TocsinError as exc:
                reason = str(exc)
            except (KafkaError, TimeoutError, OSError) as exc:
                reason = f"revocations cannot be read: {exc!r}"
            finally:
                await consumer.stop()
            self._reason = reason
            if reason != said:
                said = reason
                log.warning("%s; trying again", reason)
            await asyncio.sleep(BACKOFF)

    async def _begin(self, consumer: Any) -> None:
        """Connect, and be assigned all partitions. Looks for the topic first: to wait for one has no end."""
        await consumer.start()
        if self._topic not in await consumer.topics():
            raise TocsinError(f"Kafka has no topic {self._topic}; `tocsin topics apply` makes it")
        consumer.subscribe([self._topic])
        while not consumer.assignment():  # noqa: ASYNC110 - the client tells nobody
            await asyncio.sleep(0.02)

    async def _catch_up(self, consumer: Any, take: Take) -> None:
        """Return when everything that the topic held at the beginning was taken."""
        async with asyncio.timeout(REACH):
            ends = await consumer.end_offsets(consumer.assignment())
        behind = {tp for tp, end in ends.items() if end > 0}
        while behind:
            await self._poll(consumer, take)
            for tp in list(behind):
                async with asyncio.timeout(REACH):
                    if await consumer.position(tp) >= ends[tp]:
                        behind.discard(tp)
        self._heard = asyncio.get_running_loop().time()

    async def _follow(self, consumer: Any, take: Take) -> None:
        while True:
            await self._poll(consumer, take)

    async def _poll(self, consumer: Any, take: Take) -> None:
        polled = await consumer.getmany(timeout_ms=POLL_MS)
        for records in polled.values():
            for record in records:
                try:
                    take(decode_revocation(record.value))
                except BadRecord as exc:
                    # It may be of a newer version; to stop here would shut out everybody.
                    log.warning("revocation %d:%d is not understood: %s", record.partition, record.offset, exc)
        answers = {tp: consumer.last_poll_timestamp(tp) for tp in consumer.assignment()}
        if all(answer and answer != self._answers.get(tp) for tp, answer in answers.items()):
            self._answers, self._heard = answers, asyncio.get_running_loop().time()
