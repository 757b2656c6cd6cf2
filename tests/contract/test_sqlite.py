"""What holds on SQLite alone: a full disk, a locked file, a file of something else."""

import asyncio
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from schemas.errors import StoreError
from store.port import Cursor
from store.sqlite import SqliteStore
from store.urls import open_store
from tests.contract.samples import entries, opened, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow over `size` bytes: to SQLite that is a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_acknowledges_nothing_and_passes(path: Path) -> None:
    async with opened(f"sqlite://{path}") as store:
        await store.append(entries("log", 1, 1, 100))
        with file_size_limit(path.with_name("store.db-wal").stat().st_size + 50_000):
            for _ in range(3):
                with pytest.raises(StoreError, match="nothing of this was kept"):
                    await store.append(entries("log", 1, 101, 110, size=64 * 1024))
            assert (await store.heads(["log"]))["log"].seq == 100
        await store.append(entries("log", 1, 101, 110, size=64 * 1024))
        assert (await store.heads(["log"]))["log"].seq == 110
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_locked_file_fails_the_call_and_passes(path: Path) -> None:
    async with opened(f"sqlite://{path}") as store:
        assert isinstance(store, SqliteStore)
        await store._writer.run(lambda connection: connection.execute("PRAGMA busy_timeout = 100").fetchall())
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            calls = [store.append(entries(f"log{number}", 1, 1, 1)) for number in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(result) for result in results] == [StoreError] * 5
            assert await store.get_cursors(["u"]) == {"u": []}  # who reads is not held up
            other.execute("ROLLBACK")
        await store.put_cursors([Cursor("u", "l", "d", 1, 0)])
        assert (await store.get_cursors(["u"]))["u"] == [Cursor("u", "l", "d", 1, 0)]


async def test_a_short_lock_is_waited_for(path: Path) -> None:
    async with opened(f"sqlite://{path}") as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            call = asyncio.create_task(store.append(entries("log", 1, 1, 1)))
            await until(lambda: isinstance(store, SqliteStore) and store._writer._queue.empty(), within=5)
            assert not call.done()
            other.execute("ROLLBACK")
            await call
        assert (await store.heads(["log"]))["log"].seq == 1


def test_a_file_that_is_no_database_is_said(path: Path) -> None:
    path.write_bytes(os.urandom(8_192))
    with pytest.raises(StoreError, match=r"store\.db .*not a database"):
        asyncio.run(open_store(f"sqlite://{path}").open())
