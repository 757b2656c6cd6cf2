"""The thread in which the Kafka client lives: shorter turns than Faust's, and a look at who the group thinks we are."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import ConsumerStoppedError, NoError, RebalanceInProgressError, UnknownMemberIdError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from links import unpacking
from links.kafka import guard
from schemas.errors import TocsinError
from schemas.limits import record_limits

BROKER_WAIT_MS: Final = 20  # that a broker may hold a fetch: what lies in a partition that is left out waits as long
RECOVERY_RECORDS: Final = 5_000  # that one fetch takes while tables are recovered; else what the app says
FETCH_EVERY: Final = 0.01  # s from one fetch to the next of a broker, at the least
LOOK_AGAIN: Final = 0.1  # s between requests for metadata that a leader lacks


class InstanceTaken(TocsinError):
    """Another worker has joined the group under the instance id of this one."""


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust has no type information here
    """Asks the broker in shorter turns than Faust's 1.5 s, and without pauses.

    While a partition's records wait to be taken, aiokafka asks their broker for nothing for up to 100 ms, so that one
    lane with a backlog would hold up every other; and it gives what it has in the order in which it came, so that a
    critical record would stand behind all that was fetched of the backlog.

    A fetch costs about 1 ms of CPU, whatever it brings, and leaves out the partitions whose records wait to be taken:
    asked for again at once, it would leave out just those where much happens, for as long as the broker holds it. A few
    ms later all of them have been taken, so less often is sooner.

    A second worker with the same instance id takes the place of the first in the group. aiokafka does not see that: the
    first would join again, take the place back, and so on. Here the first one ends, and joins no more until it has.

    The leader of a group shares out the partitions that it knows of. If Kafka was away when it asked for them, aiokafka
    asks again after minutes, and until then nobody would own anything. Here the leader asks until it knows them.

    When the worker crashes the thread ends first, and what is asked of it from then on nobody answers. The commit with
    which the rest of the worker stops would wait for ever; here it is told.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._calls: set[asyncio.Future[Any]] = set()  # that the thread has not answered
        self._ended = False

    async def call_thread(self, fun: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function in the thread. Raises `ConsumerStoppedError` if the thread ends first."""
        if self._ended:
            raise ConsumerStoppedError
        promise: asyncio.Future[Any] = self.parent_loop.create_future()
        self._calls.add(promise)
        try:
            return await (await self.method_queue.call(promise, fun, *args, **kwargs))
        finally:
            self._calls.discard(promise)

    async def on_thread_stop(self) -> None:
        """Answer no more calls, and say so to those that wait."""
        await super().on_thread_stop()
        self.parent_loop.call_soon_threadsafe(self._end_calls)

    def _end_calls(self) -> None:
        self._ended = True
        for promise in self._calls:
            if not promise.done():
                promise.set_exception(ConsumerStoppedError())

    def _create_worker_consumer(self, *args: Any, **kwargs: Any) -> Any:
        unpacking.install(record_limits)
        client = super()._create_worker_consumer(*args, **kwargs)
        guard(client._client)  # noqa: SLF001 - see there
        client._fetch_max_wait_ms = BROKER_WAIT_MS  # noqa: SLF001 - Faust offers no setting; read when the client starts
        return client

    async def on_start(self) -> None:
        """Start the client, then take the pause out of it and look at what the group answers."""
        await super().on_start()
        client = self._ensure_consumer()
        client._fetcher._prefetch_backoff = 0.0  # noqa: SLF001 - see above; aiokafka is pinned
        client._fetcher._get_actions_per_node = Pace(client._fetcher._get_actions_per_node)  # noqa: SLF001 - see above
        self._lead_by_what_there_is(client)
        if self.app.conf.consumer_group_instance_id:
            self._watch(client._coordinator)  # noqa: SLF001 - see above

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:  # noqa: ASYNC109  # Faust's signature
        """Return what the client has; much at once while tables are recovered."""
        client = self._ensure_consumer()
        most = RECOVERY_RECORDS if self.app.in_recovery else client._max_poll_records  # noqa: SLF001 - see above
        return await self.call_thread(self._fetch_records, client, active_partitions, timeout=timeout, max_records=most)

    async def _fetch_records(self, consumer: Any, active_partitions: Any, **options: Any) -> RecordMap:
        urgent_first(consumer._fetcher._records, self.consumer.priorities)  # noqa: SLF001 - see above; aiokafka is pinned
        records: RecordMap = await super()._fetch_records(consumer, active_partitions, **options)
        return records

    def _stopped_set(self) -> None:
        try:
            super()._stopped_set()
        except RuntimeError:  # the thread ended in a crash and closed its loop: nobody there waits to be told
            self._stopped.set()

    def _lead_by_what_there_is(self, client: Any) -> None:
        coordinator = client._coordinator  # noqa: SLF001 - see above
        perform = coordinator._perform_assignment  # noqa: SLF001 - see above
        within = self.app.conf.broker_session_timeout / 2  # while it waits, the group hears nothing of its leader

        async def performed(response: Any) -> Any:
            topics = {
                topic for *_, said in response.members for topic in ConsumerProtocol.METADATA.decode(said).subscription
            }
            if not await topics_known(client._client, topics, within):  # noqa: SLF001 - see above
                self.log.error(
                    "Kafka names no partitions of some of %s; the group goes on without them", sorted(topics)
                )
            return await perform(response)

        coordinator._perform_assignment = performed  # noqa: SLF001 - see above

    def _watch(self, coordinator: Any) -> None:
        ask = coordinator._send_req  # noqa: SLF001 - see above
        known = -float("inf")  # when the group last knew us
        taken = False

        async def asked(request: Any) -> Any:
            nonlocal known, taken
            if taken and isinstance(request, JoinGroupRequest):
                raise UnknownMemberIdError  # it would throw the other out, and hold up the end of this worker
            answer = await ask(request)
            now = time.monotonic()
            lately = now - known < self.app.conf.broker_session_timeout
            if knows_us(request, answer):
                known = now
            elif lately and not taken and UnknownMemberIdError.errno in codes(answer):
                taken = True
                await self._end()
            return answer

        coordinator._send_req = asked  # noqa: SLF001 - see above

    async def _end(self) -> None:
        error = InstanceTaken(
            f"another worker uses TOCSIN_INSTANCE={self.app.conf.consumer_group_instance_id}, and the group has taken "
            f"it in this one's place: give each worker an id of its own"
        )
        self.log.critical("%s", error)
        await self.crash(error)


class Pace:
    """Asks for no decision until `FETCH_EVERY` after the last fetch; wraps what decides in aiokafka's fetcher.

    Its answer: requests of fetches, of offsets, s after which to ask again, and what else is waited for meanwhile. A
    decision looks at every partition, and aiokafka wants three a fetch.
    """

    def __init__(self, decide: Callable[[Any], tuple[Any, ...]], clock: Callable[[], float] = time.monotonic) -> None:
        self._decide = decide
        self._clock = clock
        self._next = 0.0

    def __call__(self, assignment: Any) -> tuple[Any, ...]:
        """Decide."""
        now = self._clock()
        if now < self._next:
            return ([], {}, self._next - now, False, [])
        decision = self._decide(assignment)
        if decision[0]:
            self._next = now + FETCH_EVERY
        return decision


def urgent_first(waiting: OrderedDict[Any, Any], priorities: Mapping[str, int]) -> None:
    """Put the fetched partitions of the lowest priority first; without it they are given in the order they came."""
    if len(waiting) > 1:
        for tp in sorted(waiting, key=lambda tp: priorities.get(tp.topic, 0)):
            waiting.move_to_end(tp)


async def topics_known(client: Any, topics: set[str], within: float) -> bool:
    """Return whether a Kafka client knows the partitions of all topics; asks again and again for so many seconds."""
    end = time.monotonic() + within
    await client.set_topics(topics)
    while not all(client.cluster.partitions_for_topic(topic) for topic in topics):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(LOOK_AGAIN)  # back-off: Kafka is away
        await client.force_metadata_update()
    return True


def knows_us(request: Any, answer: Any) -> bool:
    """Say whether a coordinator's answer shows that the group has this member."""
    asked_as_member = isinstance(request, HeartbeatRequest | JoinGroupRequest | SyncGroupRequest | OffsetCommitRequest)
    return asked_as_member and {NoError.errno, RebalanceInProgressError.errno}.issuperset(codes(answer))


def codes(answer: Any) -> Iterator[int]:
    """Return the error codes of a coordinator's answer: one, or one a partition."""
    if hasattr(answer, "error_code"):
        yield answer.error_code
    for _, partitions in getattr(answer, "topics", None) or ():
        for *_, code in partitions:
            if isinstance(code, int):
                yield code
