"""Migrations of the Cassandra store: the keyspace first, then each change, under a lease that one process holds."""

import asyncio
import time
import uuid
from typing import Any, Final

from cassandra import DriverException, InvalidRequest
from cassandra.protocol import ErrorMessage

from schemas.errors import StoreError
from store.cluster import SCHEMA_PROFILE, Address, connect
from store.migration import load, missing

LEASE: Final = 120  # s after which a process that died with the lease is forgotten
RETRY: Final = 0.2  # s between two looks at a lease that another holds, or at a keyspace that another makes
VISIBLE: Final = 10.0  # s in which a keyspace that was made can be used

_KEYSPACE: Final = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = %s"
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamp)",
    "CREATE TABLE IF NOT EXISTS migration_lease (id int PRIMARY KEY, holder uuid)",
)
_TAKE: Final = "INSERT INTO migration_lease (id, holder) VALUES (1, %s) IF NOT EXISTS USING TTL %s"
_LEAVE: Final = "DELETE FROM migration_lease WHERE id = 1 IF holder = %s"
_NOTE: Final = "INSERT INTO migrations (name, applied_at) VALUES (%s, toTimestamp(now()))"


def applied(session: Any, keyspace: str) -> set[str]:
    """Return the names of the migrations that a keyspace has seen. Blocks."""
    query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s AND table_name = 'migrations'"
    if not _execute(session, query, (keyspace,)):
        return set()
    return {name for (name,) in _execute(session, f"SELECT name FROM {keyspace}.migrations")}  # noqa: S608 - a checked name


def pending(session: Any, keyspace: str) -> list[str]:
    """Return the names of the migrations that a keyspace lacks. Blocks."""
    return [migration.name for migration in missing(load("cassandra"), applied(session, keyspace))]


def apply(session: Any, address: Address) -> list[str]:
    """Make the keyspace if needed, bring it up to date and return what was applied. Blocks. Raises `StoreError`."""
    if not _execute(session, _KEYSPACE, (address.keyspace,)):  # else nobody has to be allowed to make keyspaces
        _execute(session, f"CREATE KEYSPACE IF NOT EXISTS {address.keyspace} WITH replication = {replication(address)}")
    _enter(session, address.keyspace)
    for table in _TABLES:
        _execute(session, table)
    holder = uuid.uuid4()
    _take_lease(session, holder)
    try:
        todo = missing(load("cassandra"), applied(session, address.keyspace))
        for migration in todo:
            for statement in migration.statements:
                _execute(session, statement)
            _execute(session, _NOTE, (migration.name,))
    finally:
        _execute(session, _LEAVE, (holder,))
    return [migration.name for migration in todo]


def _enter(session: Any, keyspace: str) -> None:
    """Use a keyspace, which is listed a moment before it can be used while somebody else makes it. Blocks."""
    end = time.monotonic() + VISIBLE
    while True:
        try:
            session.set_keyspace(keyspace)
        except InvalidRequest as exc:
            if time.monotonic() > end:
                raise StoreError(f"the keyspace {keyspace} cannot be used: {exc}") from exc
            time.sleep(RETRY)
        else:
            return


def replication(address: Address) -> dict[str, str | int]:
    """Return the replication of a new keyspace: copies a data centre if one is named, else copies in all."""
    if address.dc:
        return {"class": "NetworkTopologyStrategy", address.dc: address.replication}
    return {"class": "SimpleStrategy", "replication_factor": address.replication}


def _take_lease(session: Any, holder: uuid.UUID) -> None:
    end = time.monotonic() + LEASE + 10
    while not _execute(session, _TAKE, (holder, LEASE))[0][0]:
        if time.monotonic() > end:
            raise StoreError("another process holds the lease on migrations; see the table migration_lease")
        time.sleep(RETRY)


def _execute(session: Any, query: str, values: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
    return list(session.execute(query, values, execution_profile=SCHEMA_PROFILE))


class CassandraMigrations:
    """The port `Migrations` for one keyspace."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def pending(self) -> list[str]:
        """Return the names of the migrations that are not applied, in order. Makes nothing. Raises `StoreError`."""
        return await asyncio.to_thread(self._connected, lambda session: pending(session, self._address.keyspace))

    async def apply(self) -> list[str]:
        """Apply them and return their names. Raises `StoreError`."""
        return await asyncio.to_thread(self._connected, lambda session: apply(session, self._address))

    def _connected(self, work: Any) -> list[str]:
        session = connect(self._address)
        try:
            names: list[str] = work(session)
        except (DriverException, ErrorMessage) as exc:
            raise StoreError(f"{self._address.keyspace} on {self._address.names()} cannot be migrated: {exc}") from exc
        finally:
            session.cluster.shutdown()
        return names
