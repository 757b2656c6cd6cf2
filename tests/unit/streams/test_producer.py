"""Records leave in whole batches a partition, in order, however large; each run says where it was written."""

import asyncio
from collections import defaultdict
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from streams.partitions import home_partition
from streams.producer import LEAST_BATCH, BatchProducer, Emit, Written

PARTITIONS = 4
BATCH = 2_000  # bytes

Stored = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]


class Client:
    """Stands in for the Kafka client: real batches, and partitions in memory."""

    def __init__(self) -> None:
        self.stored: defaultdict[tuple[str, int], list[Stored]] = defaultdict(list)
        self.requests = 0
        self.acked: asyncio.Event | None = None

    def create_batch(self) -> Any:
        return BatchBuilder(BATCH, 0)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        records = DefaultRecordBatch(bytes(batch._build()))
        return self._store(topic, partition, [(one.key, one.value, tuple(one.headers)) for one in records])

    async def partitions_for(self, _topic: str) -> set[int]:
        return set(range(PARTITIONS))

    def _store(self, topic: str, partition: int, records: list[Stored]) -> asyncio.Future[Any]:
        self.requests += 1
        place = self.stored[topic, partition]
        written = Written(topic, partition, len(place), len(records))
        place += records

        async def acknowledged() -> Written:
            if self.acked is not None:
                await self.acked.wait()
            return written

        return asyncio.ensure_future(acknowledged())


def producer_on(client: Client) -> BatchProducer:
    producer = BatchProducer({"bootstrap_servers": "127.0.0.1:1"})
    producer._producer = client
    return producer


@pytest.fixture
def client() -> Client:
    return Client()


async def test_a_record_goes_to_the_home_of_its_key_unless_it_says_otherwise(client: Client) -> None:
    await producer_on(client).emit(
        [Emit("t", b"ann", b"1"), Emit("t", b"ann", b"2", partition=3), Emit("t", None, b"3")]
    )
    assert client.stored["t", home_partition(b"ann", PARTITIONS)][0][:2] == (b"ann", b"1")
    assert client.stored["t", 3][-1][:2] == (b"ann", b"2")
    assert client.stored["t", home_partition(b"", PARTITIONS)][-1][:2] == (None, b"3")


async def test_all_records_of_a_partition_leave_in_one_request(client: Client) -> None:
    await producer_on(client).emit([Emit("t", b"k", str(n).encode(), partition=n % 2) for n in range(20)])
    assert client.requests == 2
    assert [value for _, value, _ in client.stored["t", 1]] == [str(n).encode() for n in range(1, 20, 2)]


@given(st.lists(st.integers(0, 3 * BATCH), max_size=20))
def test_order_is_kept_whatever_the_sizes(sizes: list[int]) -> None:
    async def write() -> None:
        client = Client()
        emits = [Emit("t", b"k", str(n).encode().ljust(size), partition=0) for n, size in enumerate(sizes)]
        written = await producer_on(client).write_runs({("t", 0): emits})
        assert [value for _, value, _ in client.stored["t", 0]] == [emit.value for emit in emits]
        assert sum(run.count for run in written) == len(sizes)
        assert [run.offset for run in written] == [sum(r.count for r in written[:n]) for n in range(len(written))]

    asyncio.run(write())


async def test_nothing_is_asked_for_nothing(client: Client) -> None:
    assert await producer_on(client).write_runs({("t", 0): []}) == []
    await producer_on(client).emit([])
    assert client.requests == 0


async def test_headers_and_deletions_are_kept(client: Client) -> None:
    headers = (("tocsin-id", b"x"), ("trace", b"y"))
    await producer_on(client).emit([Emit("t", b"k", None, headers, 0), Emit("t", None, None, partition=0)])
    assert client.stored["t", 0] == [(b"k", None, headers), (None, b"", ())]


async def test_emit_returns_when_everything_is_acknowledged(client: Client) -> None:
    client.acked = asyncio.Event()
    emitting = asyncio.create_task(producer_on(client).emit([Emit("t", b"k", b"v"), Emit("u", b"k", b"v")]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert client.requests == 2
    assert not emitting.done()
    client.acked.set()
    await emitting


async def test_a_producer_that_never_started_can_be_stopped() -> None:
    await BatchProducer({"bootstrap_servers": "127.0.0.1:1"}).stop()


# -- what the broker refuses for its size ------------------------------------------------------------------------------

LIMIT = 1_000  # bytes of a batch that the broker takes


class Strict(Client):
    """A broker that refuses batches over a limit, and then whatever this client writes to the same partition."""

    def __init__(self, stored: defaultdict[tuple[str, int], list[Stored]], refused: list[int]) -> None:
        super().__init__()
        self.stored = stored
        self.refused = refused
        self.out_of_step: set[tuple[str, int]] = set()

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        error: Exception | None = None
        if (topic, partition) in self.out_of_step:
            error = OutOfOrderSequenceNumber()
        elif len(data := batch._build()) > LIMIT:
            self.out_of_step.add((topic, partition))
            self.refused.append(len(data))
            error = MessageSizeTooLargeError()
        if error is None:
            return await super().send_batch(batch, topic, partition=partition)
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        return future

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""


class Strictly(BatchProducer):
    """The producer on such a broker."""

    def __init__(self) -> None:
        super().__init__({"bootstrap_servers": "127.0.0.1:1"})
        self.stored: defaultdict[tuple[str, int], list[Stored]] = defaultdict(list)
        self.refused: list[int] = []
        self._producer = self._made()

    def _made(self) -> Any:
        return Strict(self.stored, self.refused)


@given(st.lists(st.tuples(st.integers(0, LIMIT), st.integers(0, 1)), min_size=1, max_size=40))
def test_what_fits_alone_is_written_in_order_however_the_batches_were_refused(sizes: list[tuple[int, int]]) -> None:
    async def write() -> None:
        producer = Strictly()
        runs: dict[tuple[str, int], list[Emit]] = {("t", 0): [], ("t", 1): []}
        for number, (size, partition) in enumerate(sizes):
            spare = Emit("t", b"s", str(number).encode())
            value = str(number).encode().ljust(size)
            runs["t", partition].append(Emit("t", b"k", value, partition=partition, spare=spare))
        written = await producer.write_runs(runs)
        assert sum(run.count for run in written) == len(sizes)
        for place, records in runs.items():
            found = [(key, int(value or b"")) for key, value, _ in producer.stored[place]]
            assert [number for _, number in found] == [int(record.value or b"") for record in records]
            assert all(key == b"k" for (key, _), one in zip(found, records, strict=True) if len(one.value or b"") < 900)
        assert producer.emitting == 0
        await producer.stop()

    asyncio.run(write())


async def test_a_record_that_is_refused_alone_is_named_and_does_not_spoil_the_producer() -> None:
    producer = Strictly()
    with pytest.raises(MessageSizeTooLargeError, match="t does not take a record of 5"):
        await producer.emit([Emit("t", b"k", b"1", partition=0), Emit("t", b"k", bytes(5_000), partition=0)])
    await producer.emit([Emit("t", b"k", b"2", partition=0)])
    assert [value for _, value, _ in producer.stored["t", 0]][-1] == b"2"


async def test_a_limit_that_was_met_once_is_kept_to() -> None:
    producer = Strictly()
    producer._largest["t"] = 900
    await producer.emit([Emit("t", b"k", bytes(200), partition=0) for _ in range(50)])
    assert producer.refused == []
    assert LEAST_BATCH > 900  # so it is not learned that finely from refusals
