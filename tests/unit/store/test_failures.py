"""Every error of SQLite and of Cassandra's driver has been decided about; a new one fails here until somebody has."""

import inspect
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cassandra
import cassandra.cluster
import cassandra.connection
import cassandra.pool
import cassandra.protocol
import pytest

from schemas.errors import DiskError, Kind, StoreAway, StoreBroken, StoreRefused
from store import cassandra_failures, sqlite_failures
from store.sqlite_writer import Writer

# Results of an authorizer and numbers of limits and actions, which Python has under the same prefix.
CODES = {
    name: code
    for name in (
        "SQLITE_ERROR", "SQLITE_INTERNAL", "SQLITE_PERM", "SQLITE_ABORT", "SQLITE_BUSY", "SQLITE_LOCKED",
        "SQLITE_NOMEM", "SQLITE_READONLY", "SQLITE_INTERRUPT", "SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTFOUND",
        "SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL", "SQLITE_EMPTY", "SQLITE_SCHEMA", "SQLITE_TOOBIG",
        "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_MISUSE", "SQLITE_NOLFS", "SQLITE_AUTH", "SQLITE_FORMAT",
        "SQLITE_RANGE", "SQLITE_NOTADB",
    )
    if (code := getattr(sqlite3, name))
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
def test_every_code_of_sqlite_is_decided(name: str) -> None:
    assert CODES[name] in sqlite_failures.TABLE


def test_the_codes_are_those_of_sqlite() -> None:
    assert sorted(CODES.values()) == list(range(1, 27)), "the primary codes of failures are 1 to 26"


def failed(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("message")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failed(sqlite3.SQLITE_BUSY), Kind.AWAY),
        (failed(sqlite3.SQLITE_BUSY_SNAPSHOT), Kind.AWAY),
        (failed(sqlite3.SQLITE_LOCKED_SHAREDCACHE), Kind.AWAY),
        (failed(sqlite3.SQLITE_IOERR_NOMEM), Kind.AWAY),
        (failed(sqlite3.SQLITE_CONSTRAINT_TRIGGER), Kind.REFUSED),
        (failed(sqlite3.SQLITE_TOOBIG), Kind.REFUSED),
        (OverflowError("int too large"), Kind.REFUSED),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), Kind.REFUSED),
        (failed(sqlite3.SQLITE_FULL), Kind.DISK),
        (failed(sqlite3.SQLITE_IOERR_WRITE), Kind.DISK),
        (failed(sqlite3.SQLITE_CORRUPT_INDEX), Kind.DISK),
        (failed(sqlite3.SQLITE_READONLY_DBMOVED), Kind.DISK),
        (failed(99), Kind.DISK),
        (sqlite3.ProgrammingError("no code: Python's own"), Kind.OURS),
        (LookupError("ours"), Kind.OURS),
    ],
)
def test_kinds_of_sqlite(error: BaseException, kind: Kind) -> None:
    assert sqlite_failures.kind(error) is kind


async def test_a_full_disk_is_no_reason_to_try_again(tmp_path: Path) -> None:
    """SQLite itself says so: its file may not grow."""
    writer = Writer(_made(tmp_path))
    await writer.run(lambda c: c.execute("PRAGMA max_page_count = 3"))
    with pytest.raises(StoreBroken, match="cannot be used") as caught:
        await writer.run(lambda c: c.execute("INSERT INTO t VALUES (zeroblob(100000))"))
    assert isinstance(caught.value, DiskError)
    await writer.close()


async def test_a_locked_file_is_waited_for_and_a_value_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.sqlite_writer.LOCK_WAIT", 0.01)
    path = _made(tmp_path)
    writer = Writer(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreAway, match="locked"):
        await writer.run(lambda c: c.execute("INSERT INTO t VALUES (1)"))
    other.execute("ROLLBACK")
    other.close()
    with pytest.raises(StoreRefused):
        await writer.run(lambda c: c.execute("INSERT INTO t VALUES (?)", (1 << 80,)))
    await writer.close()


def _made(folder: Path) -> Path:
    path = folder / "t.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    return path


# What the driver raises where none of its servers is asked, or to programs of other kinds.
ELSEWHERE = {
    "DependencyException", "NotSupportedError", "InternalError", "CrcException", "ShutdownException",
    "TraceUnavailable", "NoMurmur3", "ShutDownException", "UserTypeDoesNotExist", "QueryExhausted",
}  # fmt: skip


def exceptions(module: ModuleType) -> Iterator[type[Any]]:
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, Exception) and found.__module__.startswith("cassandra"):
            yield found


@pytest.mark.parametrize(
    "error",
    sorted(
        {
            found
            for module in (
                cassandra, cassandra.cluster, cassandra.connection, cassandra.pool, cassandra.protocol,
            )
            for found in exceptions(module)
        },
        key=str,
    ),
)  # fmt: skip
def test_every_error_of_cassandras_driver_is_decided(error: type[Exception]) -> None:
    assert error in cassandra_failures.TABLE or error.__name__ in ELSEWHERE


@pytest.mark.parametrize(
    ("error", "kind", "doubtful"),
    [
        (cassandra.OperationTimedOut(), Kind.AWAY, False),
        (cassandra.cluster.NoHostAvailable("none", {}), Kind.AWAY, False),
        (cassandra.Unavailable("few", required_replicas=2, alive_replicas=1), Kind.AWAY, False),
        (cassandra.InvalidRequest("Batch too large"), Kind.REFUSED, False),
        (cassandra.WriteFailure("failed"), Kind.REFUSED, True),
        (cassandra.ReadFailure("tombstones"), Kind.REFUSED, True),
        (cassandra.Unauthorized("no"), Kind.BARRED, False),
        (OSError("of one of the driver's threads"), Kind.AWAY, False),
    ],
)
def test_kinds_of_cassandra(error: BaseException, kind: Kind, doubtful: bool) -> None:
    assert (cassandra_failures.kind(error), cassandra_failures.is_doubtful(error)) == (kind, doubtful)
