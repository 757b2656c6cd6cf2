"""Fixtures for everybody: real servers on free ports of loopback, started when asked for, ended with the session."""

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from stack import ports
from stack.servers import Cassandra, Kafka, Redis

pytest_plugins = ["tests.system", "tests.browsers"]  # the whole of Tocsin, and browsers, as one fixture each

# A busy machine is no finding: examples may take their time.
hypothesis.settings.register_profile("tocsin", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tocsin")

# A shell starts what runs in its background with these ignored, and children inherit that; tests send them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def kafka(server_folder: Path) -> Iterator[Kafka]:
    with Kafka(server_folder / "kafka") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> Iterator[Redis]:
    with Redis(server_folder / "redis") as server:
        yield server


@pytest.fixture(scope="session")
def cassandra(server_folder: Path) -> Iterator[Cassandra]:
    with Cassandra(server_folder / "cassandra") as server:
        yield server


@pytest.fixture
def free_port() -> int:
    return ports.free_port()
