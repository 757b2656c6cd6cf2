"""Reading topics from the command line: without a group, a page at a time, up to an end that was fixed before."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import OffsetOutOfRangeError

from cli.kafka import Refused, admin
from links import unpacking
from schemas.limits import record_limits
from streams.replay_range import Extent, RangeError
from streams.settings import Settings

PAGE: Final = 500  # records that are held at a time, at most
WAIT_MS: Final = 1_000  # for records that are not there yet
FETCH_WAIT_MS: Final = 20  # that the broker waits for more; other questions wait behind it
SILENCE: Final = 15  # such waits in a row after which the broker is not believed


class Reader:
    """Topics by full name, each read by one caller at a time; `partitions` is how many each topic has."""

    def __init__(self, consumer: Any, client: AIOKafkaAdminClient, partitions: Mapping[str, int]) -> None:
        self._consumer = consumer
        self.admin = client
        self.partitions = partitions

    def require(self, topic: str) -> int:
        """Return the number of partitions of a topic. Raises `Refused` if there is none of that name."""
        if topic not in self.partitions:
            raise Refused(f"Kafka has no topic {topic}; `tocsin topics apply` makes those of topics.yaml")
        return self.partitions[topic]

    async def extent(self, topic: str, shown: str, times: Iterable[int] = ()) -> Extent:
        """Return what Kafka has of a topic now, and where the times lie (ms); `shown` is its name in errors."""
        places = [TopicPartition(topic, number) for number in range(self.require(topic))]
        begin = await self._consumer.beginning_offsets(places)
        end = await self._consumer.end_offsets(places)
        at: dict[int, dict[int, int]] = {}
        for ms in times:
            found = await self._consumer.offsets_for_times(dict.fromkeys(places, ms))
            at[ms] = {p.partition: found[p].offset if found.get(p) else end[p] for p in places}
        return Extent(shown, {p.partition: begin[p] for p in places}, {p.partition: end[p] for p in places}, at)

    async def pages(
        self, topic: str, partition: int, first: int, last: int, size: int = PAGE
    ) -> AsyncIterator[list[Any]]:
        """Yield the records with first <= offset < last, at most `size` at a time.

        Raises `RangeError` if Kafka has dropped the first of them, `Refused` if it does not give them.
        """
        if first >= last:
            return  # the client must not be stopped right after it was assigned what it has not begun to read: it hangs
        place = TopicPartition(topic, partition)
        self._consumer.assign([place])
        self._consumer.seek(place, first)
        silent = 0
        while await self._consumer.position(place) < last:
            try:
                found = await self._consumer.getmany(place, timeout_ms=WAIT_MS, max_records=size)
            except OffsetOutOfRangeError:
                raise RangeError(f"offset {first} of partition {partition} of {topic} is gone meanwhile") from None
            page = [record for record in found.get(place, ()) if record.offset < last]
            silent = 0 if page else silent + 1
            if silent == SILENCE:
                at = await self._consumer.position(place)
                raise Refused(f"Kafka does not give the records of {topic}, partition {partition}, from {at} on")
            if page:
                yield page

    async def all_of(self, topic: str) -> AsyncIterator[list[Any]]:
        """Yield every record of a topic that is there now, page by page, partition after partition."""
        extent = await self.extent(topic, topic)
        for partition, end in extent.end.items():
            async for page in self.pages(topic, partition, extent.begin[partition], end):
                yield page


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Reader]:
    """Give a reader. Raises `Unreachable` or `Refused`, also for what fails inside."""
    async with admin(settings.kafka_options()) as client:
        # asks for all topics: asking for one by name would make it where the broker may
        partitions = {topic["topic"]: len(topic["partitions"]) for topic in await client.describe_topics()}
        unpacking.install(record_limits)
        consumer = AIOKafkaConsumer(
            **settings.kafka_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            await asyncio.sleep(0)  # its own task has to begin, or `stop` raises the cancellation of it
            yield Reader(consumer, client, partitions)
        finally:
            await consumer.stop()
