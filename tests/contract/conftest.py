"""Both stores, each real: a SQLite file and a Cassandra server."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stack.servers.cassandra import Cassandra
from store.port import Store
from tests.contract.samples import opened

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    with Cassandra(tmp_path_factory.mktemp("cassandra")) as server:
        yield server


@pytest.fixture(params=["sqlite", "cassandra"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the store of the test is; Cassandra's is shared, so tests name their logs by `name`."""
    if kind == "sqlite":
        return f"sqlite://{tmp_path}/store.db"
    server: Cassandra = request.getfixturevalue("cassandra")
    return server.url


@pytest.fixture
def new_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no store is yet."""
    if kind == "sqlite":
        return f"sqlite://{tmp_path}/new/store.db"
    server: Cassandra = request.getfixturevalue("cassandra")
    return f"cassandra://{server.address}/new_{os.getpid()}_{next(_numbers)}"


@pytest.fixture
def name() -> str:
    """A name that no other test has used."""
    return f"test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with opened(url) as store:
        yield store


@pytest.fixture
async def second(store: Store, url: str) -> AsyncIterator[Store]:
    """Another opening of the same store, as another process has it."""
    async with opened(url) as second:
        yield second
