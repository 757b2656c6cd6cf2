"""What holds on Cassandra alone: a server that is killed, silent or absent; buckets after a crash; replicas."""

import asyncio
import gc

import pytest
from cassandra.cluster import ResponseFuture

from schemas.errors import StoreBarred, StoreError, StoreRefused
from stack.servers.cassandra import Cassandra
from store.batches import routing_key
from store.cassandra import CassandraStore
from store.port import Append, Cursor, Range, Store
from store.requests import Request
from store.urls import open_store
from store.wire import integer
from tests.contract.samples import entries, opened, row, show_dense, until

LOGS = 20


class Load:
    """Appends one row after the other to many logs; what fails is done again, as a worker does."""

    def __init__(self, store: Store, name: str) -> None:
        self.acknowledged = {f"{name}/{number}": 0 for number in range(LOGS)}
        self.errors: list[StoreError] = []
        self.stopping = False
        self.tasks = [asyncio.create_task(self.write(store, log)) for log in self.acknowledged]

    async def write(self, store: Store, log: str) -> None:
        while not self.stopping:
            seq = self.acknowledged[log] + 1
            try:
                await store.append(entries(log, 1, seq, seq))
            except StoreError as exc:
                self.errors.append(exc)
            else:
                self.acknowledged[log] = seq

    @property
    def total(self) -> int:
        return sum(self.acknowledged.values())

    async def stop(self) -> None:
        self.stopping = True
        await asyncio.gather(*self.tasks)


async def test_a_killed_cassandra_loses_nothing_and_is_found_again(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        load = Load(store, name)
        await until(lambda: load.total > 1_000, within=30)
        cassandra.kill()
        before = load.total
        cassandra.spawn()
        await until(cassandra.ready, within=90)
        await until(lambda: load.total > before + 1_000, within=30)
        await load.stop()
    async with opened(cassandra.url) as store:
        await show_dense(store, load.acknowledged)


async def test_requests_leave_no_cycles_behind(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        await store.heads([name])
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                await store.append(entries(f"{name}/{number}", 1, 1, 50))
                await store.put_cursors(
                    [Cursor(user=name, log="inbox/normal", device=str(number), delivered=1, read=1)]
                )
                await store.read([Range(f"{name}/{number}", 1, 50)])
                await store.heads([f"{name}/{number}"])
            # the driver's thread holds the last one until it has come back from telling the loop
            await until(lambda: not requests_alive(), within=10)
        finally:
            gc.enable()


def requests_alive() -> list[str]:
    return [type(one).__name__ for one in gc.get_objects() if issubclass(type(one), (ResponseFuture, Request))]


async def test_a_cassandra_that_says_nothing_fails_the_call_and_is_used_again(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        assert isinstance(store, CassandraStore)
        store._requests._deadline = 0.5
        cassandra.pause()
        try:
            with pytest.raises(StoreError, match=r"did not answer within 0\.5 s.*check that it runs"):
                await store.append(entries(name, 1, 1, 1))
        finally:
            cassandra.resume()
        store._requests._deadline = 10.0
        await store.append(entries(name, 1, 1, 2))
        assert (await store.heads([name]))[name].seq == 2


async def test_a_cassandra_that_is_not_there_is_said() -> None:
    with pytest.raises(StoreError, match=r"cannot be reached at 127\.0\.0\.1:1"):
        await open_store("cassandra://127.0.0.1:1/tocsin").open()


async def test_the_routing_key_is_the_one_of_the_driver(cassandra: Cassandra) -> None:
    async with opened(cassandra.url) as store:
        assert isinstance(store, CassandraStore)
        bound = store._statements["end"].bind(("inbox/normal/ü", 7))
        key = routing_key("inbox/normal/ü".encode(), integer(7))
        assert bound.routing_key == key
        assert store._session.cluster.metadata.get_replicas("tocsin", key)


async def test_a_bucket_that_was_announced_but_not_begun_is_passed_over(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        assert isinstance(store, CassandraStore)
        await store.append(entries(name, 1, 4_000, 4_095))
        for bucket in (1, 7):
            await store._ask("put_bucket", [(bucket, bucket, name)])
            head = (await store.heads([name]))[name]
            assert (head.seq, len(head.recent)) == (4_095, 96)
        await store.append(entries(name, 1, 4_096, 4_096))
        assert (await store.heads([name]))[name].seq == 4_096


async def test_an_announced_bucket_does_not_make_a_log(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        assert isinstance(store, CassandraStore)
        await store._ask("put_bucket", [(3, 3, name)])
        head = (await store.heads([name]))[name]
        assert (head.seq, head.recent) == (0, ())


async def test_a_bucket_that_was_not_announced_is_found(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        await store.append(entries(name, 1, 4_000, 4_095))
        await store.append(entries(name, 1, 4_097, 4_099))  # only the first row of a bucket announces it
        assert (await store.heads([name]))[name].seq == 4_099


async def test_a_keyspace_of_a_data_centre(cassandra: Cassandra) -> None:
    url = f"cassandra://{cassandra.address}/of_a_centre?dc=datacenter1&replication=1&consistency=QUORUM"
    async with opened(url) as store:
        await store.append(entries("log", 1, 1, 3))
        assert (await store.heads(["log"]))["log"].seq == 3


async def test_what_cassandra_refuses_is_said_at_once(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        with pytest.raises(StoreError, match="refused"):
            await store.append(entries(name, 1, 1, 1, size=9_000_000))


async def test_a_range_ends_at_the_first_hole(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        await store.append([*entries(name, 1, 1, 3), *entries(name, 1, 5, 6)])
        (rows,) = await store.read([Range(name, 1, 9)])
        assert [entry.seq for entry in rows] == [1, 2, 3]


async def test_what_a_guardrail_forbids_is_refused_and_the_rest_is_taken(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url) as store:
        with pytest.raises(StoreRefused):
            await store.append([Append("x" * 70_000, 1, [row(1)])])  # a key of Cassandra ends at 64 KiB
        await store.append(entries(name, 1, 1, 1))
        assert (await store.heads([name]))[name].seq == 1


async def test_a_table_that_is_gone_is_no_fault_of_the_rows(cassandra: Cassandra, name: str) -> None:
    url = f"cassandra://{cassandra.address}/losing"
    async with opened(url) as store:
        assert isinstance(store, CassandraStore)
        await store.append(entries(name, 1, 1, 1))
        store._session.execute("DROP TABLE log_rows")
        with pytest.raises(StoreBarred, match="takes nothing else"):
            await store.append(entries(name, 1, 2, 2))


async def test_an_entry_that_nodes_fail_at_is_refused_while_they_take_others(cassandra: Cassandra, name: str) -> None:
    """A mutation beyond `max_mutation_size`, half of a segment of the commit log: the driver sees a failed write."""
    async with opened(cassandra.url) as store:
        assert isinstance(store, CassandraStore)
        with pytest.raises(StoreRefused) as caught:
            await store._requests.run([Request(store._statements["put_row"].bind(_huge(name)))])
        print(repr(caught.value.__cause__))
        await store.append(entries(name, 1, 1, 1))


def _huge(name: str) -> tuple[object, ...]:
    return (name, 0, 1, 1, 1, "", b"", 1, 0, "", bytes(9_000_000), "", 0, 1)
