"""Cursors are written seldom, merged by max, and an ack's record is acked only when its cursor is durable."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from agents import cursors
from agents.cursors import CursorWriter
from schemas.errors import StoreError
from schemas.records import Ack
from schemas.rows import Cursor

LOG = "inbox/normal"


class Store:
    """Keeps what it is given; waits for `open_` first, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.written: list[list[Cursor]] = []
        self.whole: list[Cursor] = []
        self.asked = asyncio.Event()
        self.open_ = asyncio.Event()
        self.open_.set()
        self.failures = 0

    async def put_cursors(self, given: Sequence[Cursor]) -> None:
        self.asked.set()
        await self.open_.wait()
        if self.failures:
            self.failures -= 1
            raise StoreError("away")
        self.written.append([cursor for cursor in given if cursor.device])
        self.whole = [cursor for cursor in given if not cursor.device]


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def writer(store: Store) -> CursorWriter:
    writer = CursorWriter(cast("Any", store))
    writer.hurry()
    return writer


def ack(delivered: int, read: int = 0, *, user: str = "ann", device: str = "phone") -> Ack:
    return Ack(user, device, LOG, delivered, read)


async def test_acks_are_merged_by_max_and_written_once(store: Store, writer: CursorWriter) -> None:
    writer.add([ack(3, 1), ack(5, 0), ack(4, 2), ack(9, device="web"), ack(1, user="bob")])
    await writer.flushed()
    (written,) = store.written
    assert sorted(written, key=lambda c: (c.user, c.device)) == [
        Cursor("ann", LOG, "phone", 5, 2),
        Cursor("ann", LOG, "web", 9, 0),
        Cursor("bob", LOG, "phone", 1, 0),
    ]


async def test_what_any_device_has_is_written_with_it(store: Store, writer: CursorWriter) -> None:
    writer.add([ack(5, 0), ack(2, 4, device="web"), ack(1, user="bob")])
    await writer.flushed()
    assert store.whole == [Cursor("ann", LOG, "", 5, 4), Cursor("bob", LOG, "", 1, 0)]


async def test_a_session_without_a_device_moves_no_cursor_and_what_it_read_was_read_by_the_user(
    store: Store, writer: CursorWriter
) -> None:
    writer.add([ack(9, 4, device=""), ack(9, 3, device=""), ack(3, 1)])
    await writer.flushed()
    assert store.written == [[Cursor("ann", LOG, "phone", 3, 1)]]
    assert store.whole == [Cursor("ann", LOG, "", 3, 4)]


@pytest.mark.parametrize(
    ("device", "log"), [("a b", LOG), ("é", LOG), ("x\n", LOG), ("x/y", LOG), ("phone", "inbox/other"), ("", "chat/1")]
)
async def test_an_ack_that_cannot_be_taken_is_named_and_the_others_count(
    store: Store, writer: CursorWriter, device: str, log: str
) -> None:
    (wrong,) = writer.add([ack(1), Ack("bob", device, log, 5, 5), ack(2, device="web")])
    assert repr(device if log == LOG else log) in wrong
    assert writer.waiting() == 2
    await writer.flushed()
    assert store.written == [[Cursor("ann", LOG, "phone", 1, 0), Cursor("ann", LOG, "web", 2, 0)]]
    assert writer.waiting() == 0


async def test_what_waits_is_counted_by_watermarks_and_not_by_acks(store: Store, writer: CursorWriter) -> None:
    store.open_.clear()
    for seq in range(1_000):
        writer.add([ack(seq), ack(seq, device="web")])
    assert writer.waiting() == 2
    waiting = asyncio.create_task(writer.flushed())
    await store.asked.wait()
    writer.add([ack(2_000)])
    assert writer.waiting() == 3
    store.open_.set()
    await waiting
    assert writer.waiting() == 1


async def test_flushed_waits_until_the_store_has_it(store: Store, writer: CursorWriter) -> None:
    store.open_.clear()
    writer.add([ack(1)])
    waiting = asyncio.create_task(writer.flushed())
    await store.asked.wait()
    assert not waiting.done()
    assert writer.pending("ann") == [Cursor("ann", LOG, "phone", 1, 0)], "who asks meanwhile is not told an older one"
    store.open_.set()
    await waiting
    assert writer.pending("ann") == []


async def test_what_comes_while_a_write_is_under_way_is_for_the_next_one(store: Store, writer: CursorWriter) -> None:
    store.open_.clear()
    writer.add([ack(1)])
    first = asyncio.create_task(writer.flushed())
    await store.asked.wait()
    writer.add([ack(2)])
    second = asyncio.create_task(writer.flushed())
    assert [cursor.delivered for cursor in writer.pending("ann")] == [1, 2]
    store.open_.set()
    await asyncio.gather(first, second)
    assert [[cursor.delivered for cursor in written] for written in store.written] == [[1], [2]]


async def test_a_flush_ends_only_when_all_before_it_is_written(store: Store, writer: CursorWriter) -> None:
    store.open_.clear()
    store.failures = 1
    writer.add([ack(1)])
    first = asyncio.create_task(writer.flushed())
    await store.asked.wait()
    second = asyncio.create_task(writer.flushed())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done(), "it would say that all is durable, and what is under way is not"
    store.open_.set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(outcomes[0], StoreError)
    assert store.written == [[Cursor("ann", LOG, "phone", 1, 0)]]


async def test_many_are_written_in_slices_so_that_others_get_at_the_store(store: Store, writer: CursorWriter) -> None:
    writer.add([ack(1, user=f"u{number}") for number in range(2 * cursors.SLICE)])
    await writer.flushed()
    assert [len(written) for written in store.written] == [cursors.SLICE // 2] * 4
    assert writer.waiting() == 0


async def test_all_who_wait_share_one_write(store: Store, writer: CursorWriter) -> None:
    writer.add([ack(1)])
    await asyncio.gather(*(writer.flushed() for _ in range(5)))
    assert len(store.written) == 1


async def test_a_write_that_fails_keeps_what_it_had_and_everybody_is_told(store: Store, writer: CursorWriter) -> None:
    store.failures = 1
    writer.add([ack(7)])
    outcomes = await asyncio.gather(writer.flushed(), writer.flushed(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError]
    writer.add([ack(6, 5)])
    assert writer.pending("ann") == [Cursor("ann", LOG, "phone", 7, 5)]
    await writer.flushed()
    assert store.written == [[Cursor("ann", LOG, "phone", 7, 5)]]


async def test_one_who_gives_up_does_not_end_the_write(store: Store, writer: CursorWriter) -> None:
    store.open_.clear()
    writer.add([ack(1)])
    gives_up, waits = asyncio.create_task(writer.flushed()), asyncio.create_task(writer.flushed())
    await store.asked.wait()
    gives_up.cancel()
    store.open_.set()
    await waits
    assert len(store.written) == 1


async def test_it_takes_its_time_unless_partitions_are_given_up(
    store: Store, writer: CursorWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "EVERY", 3_600.0)
    writer.resume()
    writer.add([ack(1)])
    waiting = asyncio.create_task(writer.flushed())
    for _ in range(10):
        await asyncio.sleep(0)
    writer.add([ack(2)])
    assert not store.asked.is_set()
    writer.hurry()
    await waiting
    assert store.written == [[Cursor("ann", LOG, "phone", 2, 0)]]


async def test_without_hurry_it_writes_when_the_time_has_come(
    store: Store, writer: CursorWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "EVERY", 0.01)
    writer.resume()
    writer.add([ack(1)])
    await asyncio.wait_for(writer.flushed(), 5)
    assert len(store.written) == 1
