"""What experiments share: servers that are started once, a cluster of one's own, and a table of results at the end.

    async def test_x(cluster: MakeCluster) -> None:
        async with cluster(workers=2, proxies=("kafka",)) as running, run_on(running, "name", …) as run: …

See `proof.cluster` for what a cluster can do, `proof.experiment` for what an experiment is, `proof.proxy` for proxies.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from proof.cluster import Cluster
from proof.experiment import Result
from proof.servers import Servers
from tests.faults import exclusion

OUT = "TOCSIN_FAULTS_OUT"  # the folder of histories and results
COLUMNS = ("experiment", "operations", "unknown", "shown", "lost", "repeats", "violations", "recovery", "judge")


class MakeCluster(Protocol):
    """Makes a cluster that has not begun; takes what `Cluster` takes after its folder."""

    def __call__(self, **options: Any) -> Cluster: ...


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


def pytest_configure() -> None:
    """Choose the folder of results before there are several processes that run experiments."""
    if OUT not in os.environ:
        os.environ[OUT] = tempfile.mkdtemp(prefix="tocsin-faults-")


@pytest.fixture(scope="session")
def out() -> Path:
    """Where histories and results go."""
    folder = Path(os.environ[OUT])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def turn(out: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait until this experiment may run: one that is marked `alone` has the machine for itself."""
    with exclusion.turn(out, alone=request.node.get_closest_marker("alone") is not None):
        yield


@pytest.fixture
def cluster(servers: Servers, tmp_path: Path) -> MakeCluster:
    def make(**options: Any) -> Cluster:
        return Cluster(servers, tmp_path, **options)

    return make


def pytest_terminal_summary(terminalreporter: Any) -> None:
    results = Path(os.environ[OUT], "results.jsonl")
    if not results.exists():
        return
    lines = [msgspec.json.decode(line, type=Result) for line in results.read_bytes().splitlines()]
    rows = [COLUMNS, *(tuple(str(getattr(line, column)) for column in COLUMNS) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    terminalreporter.section("experiments")
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    terminalreporter.write_line(f"histories and results: {results.parent}")
