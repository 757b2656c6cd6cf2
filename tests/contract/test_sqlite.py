"""What only SQLite does: processes share its file."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from store.sqlite_migrations import SqliteMigrations


async def test_migrations_wait_for_who_makes_the_file_at_the_same_time(tmp_path: Path) -> None:
    """The file's first change of its kind of log is what SQLite itself does not wait for."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.3, other.execute, ["ROLLBACK"]).start()
        applied = await SqliteMigrations(path).apply()
    assert applied
    assert await SqliteMigrations(path).pending() == []
