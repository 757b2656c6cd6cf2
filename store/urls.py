"""Which store a URL names: `sqlite:///path` or `cassandra://[user:password@]host[:port][,host[:port]…]/keyspace`.

A Cassandra URL may end with `?replication=3&dc=dc1&consistency=LOCAL_QUORUM`: copies and data centre of a keyspace that
is yet to be made, and how many copies a read or a write waits for; and with `tls=true` or `ca=file`: TLS, with the
certificates of nodes checked by the system's authorities or by those in the file.
"""

import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

from schemas.errors import SettingsError
from store.cassandra import CassandraStore
from store.cassandra_migrations import CassandraMigrations
from store.cluster import Address
from store.port import Migrations, Store
from store.sqlite import SqliteStore
from store.sqlite_migrations import SqliteMigrations

SQLITE: Final = "sqlite://"
CASSANDRA: Final = "cassandra://"
CQL_PORT: Final = 9042
CONSISTENCIES: Final = ("ONE", "TWO", "QUORUM", "ALL", "LOCAL_QUORUM", "LOCAL_ONE")
OPTIONS: Final = ("replication", "dc", "consistency", "tls", "ca")

# Not urlsplit: it refuses a list of hosts with an IPv6 address among them.
_URL: Final = re.compile(
    r"cassandra://((?P<who>[^/?#]*)@)?(?P<hosts>[^/?#@]*)(/(?P<keyspace>[^?#]*))?(\?(?P<query>[^#]*))?"
)
_KEYSPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:(?P<port>\d{1,5}))?")


def open_store(url: str) -> Store:
    """Return the store that a URL names, not yet opened. Raises `SettingsError`."""
    address = parse(url)
    return SqliteStore(address) if isinstance(address, Path) else CassandraStore(address)


def migrations(url: str) -> Migrations:
    """Return the migrations of the store that a URL names. Raises `SettingsError`."""
    address = parse(url)
    return SqliteMigrations(address) if isinstance(address, Path) else CassandraMigrations(address)


def parse(url: str) -> Path | Address:
    """Return the file of a SQLite URL or the address of a Cassandra one. Raises `SettingsError`."""
    if url.startswith(SQLITE):
        return _file(url)
    if url.startswith(CASSANDRA):
        return _address(url)
    raise _error("begins with neither sqlite:/// nor cassandra://")


def _file(url: str) -> Path:
    path = url.removeprefix(SQLITE)
    if not path.strip("/") or not path.startswith("/") or path.endswith("/"):
        raise _error("names no file; write sqlite:///absolute/path")
    return Path("/" + path.lstrip("/"))


def _address(url: str) -> Address:
    parts = _URL.fullmatch(url)
    if not parts:
        raise _error("is malformed; write cassandra://host:port/keyspace")
    user, _, password = (parts["who"] or "").partition(":")
    keyspace = parts["keyspace"] or ""
    if not _KEYSPACE.fullmatch(keyspace):
        raise _error("names no keyspace; it has small letters, digits and _ (cassandra://host:port/keyspace)")
    options = _options(parts["query"] or "")
    replication = options.get("replication", "1")
    if not (replication.isdecimal() and 1 <= int(replication) <= 99):
        raise _error("has a bad replication; it is a number from 1")
    if options.get("consistency", "QUORUM") not in CONSISTENCIES:
        raise _error(f"has an unknown consistency; it is one of {', '.join(CONSISTENCIES)}")
    if options.get("tls", "true") not in ("true", "false"):
        raise _error("has a bad tls; it is true or false")
    return Address(
        hosts=tuple(_host(host) for host in parts["hosts"].split(",")),
        keyspace=keyspace,
        user=unquote(user),
        password=unquote(password),
        tls=options.get("tls", "true" if "ca" in options else "false") == "true",
        ca=options.get("ca", ""),
        dc=options.get("dc", ""),
        replication=int(replication),
        consistency=options.get("consistency", "LOCAL_QUORUM"),
    )


def _options(query: str) -> dict[str, str]:
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise _error("ends with a malformed query") from None
    for name in options:
        if name not in OPTIONS:
            raise _error(f"has an unknown option {name!r}; known are {', '.join(OPTIONS)}")
    return options


def _host(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if not found or not 0 < int(found["port"] or CQL_PORT) <= 65535:
        raise _error("has a bad host; write host:port")  # what it took for a host may be a piece of a password
    return found["host"].strip("[]"), int(found["port"] or CQL_PORT)


def _error(what: str) -> SettingsError:
    return SettingsError(f"the URL of the store (TOCSIN_STORE) {what}")
