import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from schemas.errors import StoreError, StoreRefused
from store.sqlite_writer import GROUP, Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x INTEGER PRIMARY KEY) STRICT")
    return path


@pytest.fixture
async def writer(path: Path) -> AsyncIterator[Writer]:
    writer = Writer(path)
    yield writer
    await writer.close()


class Insert:
    """Inserts a number; notes the transaction that it ran in, seen by the changes since the connection opened."""

    def __init__(self, number: object) -> None:
        self.number = number
        self.ran = 0

    def __call__(self, connection: sqlite3.Connection) -> object:
        self.ran += 1
        connection.execute("INSERT INTO t VALUES (?)", (self.number,))
        return self.number


async def held(writer: Writer) -> threading.Event:
    """Hold the writer inside a work of its own, so that what comes next waits together."""
    inside, go = threading.Event(), threading.Event()

    def work(_: sqlite3.Connection) -> None:
        inside.set()
        go.wait(10)

    writer._held = asyncio.create_task(writer.run(work))  # type: ignore[attr-defined]  # kept from the collector
    await asyncio.to_thread(inside.wait, 10)
    return go


def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each group that is committed adds its length."""
    seen: list[int] = []
    commit = Writer._commit

    def counted(self: Writer, group: list[object]) -> object:
        seen.append(len(group))
        return commit(self, group)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(Writer, "_commit", counted)
    return seen


async def test_work_that_waits_is_committed_together(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    go = await held(writer)
    seen = commits(monkeypatch)
    calls = [asyncio.create_task(writer.run(Insert(number))) for number in range(100)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*calls) == list(range(100))
    assert seen == [100]


async def test_a_commit_has_a_bound(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    go = await held(writer)
    seen = commits(monkeypatch)
    calls = [asyncio.create_task(writer.run(Insert(number), GROUP // 2)) for number in range(5)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*calls)
    assert seen == [2, 2, 1]


async def test_bad_work_fails_alone(writer: Writer) -> None:
    go = await held(writer)
    works = [Insert(1), Insert("not a number"), Insert(2), Insert(1 << 80), Insert(3)]
    calls = [asyncio.create_task(writer.run(work)) for work in works]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [results[number] for number in (0, 2, 4)] == [1, 2, 3]
    assert [type(results[number]) for number in (1, 3)] == [StoreRefused, StoreRefused]
    assert await writer.run(lambda c: c.execute("SELECT x FROM t ORDER BY x").fetchall()) == [(1,), (2,), (3,)]


async def test_any_error_of_a_work_reaches_its_caller_and_the_thread_goes_on(writer: Writer) -> None:
    def work(_: sqlite3.Connection) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await writer.run(work)
    assert await writer.run(Insert(1)) == 1


async def test_close_finishes_what_waits(path: Path) -> None:
    writer = Writer(path)
    calls = [asyncio.create_task(writer.run(Insert(number))) for number in range(50)]
    await asyncio.sleep(0)
    await writer.close()
    assert await asyncio.gather(*calls) == list(range(50))
    with pytest.raises(StoreError, match="closed"):
        await writer.run(Insert(99))


async def test_a_caller_that_left_is_no_trouble(writer: Writer) -> None:
    go = await held(writer)
    left = asyncio.create_task(writer.run(Insert(1)))
    stayed = asyncio.create_task(writer.run(Insert(2)))
    await asyncio.sleep(0)
    left.cancel()
    go.set()
    assert await stayed == 2
