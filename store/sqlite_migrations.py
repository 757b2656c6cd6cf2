"""Migrations of the SQLite store: each in one transaction with the note that it was applied."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from schemas.errors import StoreError
from store.migration import load, missing

WAIT: Final = 10.0  # s to wait for another process that applies at the same time
TRY_AGAIN: Final = 0.01  # s
CACHE: Final = 16_384  # KiB of pages that a connection keeps


def connect(path: Path, mode: str, wait: float) -> sqlite3.Connection:
    """Open a database file in autocommit; `mode` is `ro`, `rw` or `rwc`, `wait` the s to wait for a lock.

    The connection may change threads: its owner sees to it that one at a time uses it. Raises `sqlite3.Error`.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=wait, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def applied(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the migrations that a database has seen."""
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'").fetchone()
    return {name for (name,) in connection.execute("SELECT name FROM migrations")} if found else set()


def pending(path: Path) -> list[str]:
    """Return the names of the migrations that a file lacks, all if there is no file. Raises `StoreError`."""
    if not path.exists():
        return [migration.name for migration in load("sqlite")]
    try:
        with closing(connect(path, "ro", WAIT)) as connection:
            return [migration.name for migration in missing(load("sqlite"), applied(connection))]
    except sqlite3.Error as exc:
        raise StoreError(f"{path} cannot be read: {exc}") from exc


def apply(path: Path) -> list[str]:
    """Bring a file up to date, make it and its folder if needed, and return what was applied. Raises `StoreError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(connect(path, "rwc", WAIT)) as connection:
            _keep_log(connection)
            return _apply(connection)
    except (OSError, sqlite3.Error) as exc:
        raise StoreError(f"{path} cannot be migrated: {exc}") from exc


def _keep_log(connection: sqlite3.Connection) -> None:
    """Let the file have a write-ahead log from now on. Raises `sqlite3.Error`.

    The change takes the file for itself, and where another process wants the same SQLite does not wait but gives up.
    """
    end = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(TRY_AGAIN)
        else:
            return


def _apply(connection: sqlite3.Connection) -> list[str]:
    # one writer at a time: who comes second waits here, then finds nothing left to do
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at TEXT) STRICT")
        todo = missing(load("sqlite"), applied(connection))
        for migration in todo:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, datetime('now'))", (migration.name,))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return [migration.name for migration in todo]


class SqliteMigrations:
    """The port `Migrations` for one database file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def pending(self) -> list[str]:
        """Return the names of the migrations that are not applied, in order. Makes nothing. Raises `StoreError`."""
        return await asyncio.to_thread(pending, self._path)

    async def apply(self) -> list[str]:
        """Apply them and return their names. Raises `StoreError`."""
        return await asyncio.to_thread(apply, self._path)
