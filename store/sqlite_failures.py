"""What each error of SQLite says of asking again. Pure; a test holds the table to the codes that Python knows.

SQLite is a store and a disk of ours at once: a file that is full, read-only, broken or no longer the one it was is for
whoever runs the machine, so the process says so and ends. Only what SQLite says of the values themselves is a refusal.
"""

import sqlite3
from pathlib import Path
from typing import Final

from schemas.errors import Kind, StoreAway, StoreBroken, StoreError, StoreRefused

# By the primary code; an extended one stands above it where it means something else.
TABLE: Final[dict[int, Kind]] = {
    **dict.fromkeys(
        (
            sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA,
            sqlite3.SQLITE_ABORT, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR_NOMEM,
            sqlite3.SQLITE_IOERR_BLOCKED,
        ),
        Kind.AWAY,
    ),
    **dict.fromkeys(
        (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE),
        Kind.REFUSED,
    ),
    **dict.fromkeys(
        (
            sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH,
            sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_EMPTY, sqlite3.SQLITE_INTERNAL,
            sqlite3.SQLITE_NOTFOUND,
            sqlite3.SQLITE_ERROR,  # such as a table that is gone: the file is not the store that was opened
        ),
        Kind.DISK,
    ),
    **dict.fromkeys((sqlite3.SQLITE_MISUSE,), Kind.OURS),
}  # fmt: skip


def kind(error: BaseException) -> Kind:
    """Return what an error that came up while SQLite was asked says of asking again."""
    if isinstance(error, OverflowError | ValueError):  # a number or text that no column takes; raised by Python
        return Kind.REFUSED
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own: of a value that was read and is no text, or of how we use it
        return Kind.REFUSED if isinstance(error, sqlite3.OperationalError | sqlite3.DataError) else Kind.OURS
    # A code that nobody has decided about is no verdict on a record: the process says so and ends.
    return TABLE.get(code) or TABLE.get(code & 0xFF, Kind.DISK)


def failure(path: Path, error: BaseException) -> StoreError | None:
    """Return the error of the store that an error of SQLite amounts to; None: it is a fault of ours."""
    match kind(error):
        case Kind.AWAY:
            return StoreAway(f"{path}: {error}; nothing of this was kept, try again when the cause is gone")
        case Kind.REFUSED:
            return StoreRefused(f"{path} refused: {error}; nothing of this was kept")
        case Kind.DISK:
            return StoreBroken(
                f"{path}: {error}: the file of the store cannot be used; see to the disk under it, then start again "
                f"(what was not written is not acknowledged)"
            )
    return None
