"""A worker put together: what it subscribes to, and what it forgets when its partitions are given up."""

from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from prometheus_client import CollectorRegistry

from agents.worker import InboxWorker
from streams.inbox import LogState
from streams.settings import Settings
from streams.topics import load_topics
from telemetry.worker import WorkerMetrics


@pytest.fixture
async def worker(tmp_path: Path) -> InboxWorker:
    with patch("agents.worker.WorkerMetrics", lambda: WorkerMetrics(CollectorRegistry())):
        made = InboxWorker(Settings(data=str(tmp_path)), load_topics(), cast("Any", None))
    made.app.consumer._thread.thread_loop.close()  # the loop of a thread that was never started
    return made


async def test_what_it_knew_of_logs_goes_with_its_partitions(worker: InboxWorker, tmp_path: Path) -> None:
    logs = worker._parts.logs
    with patch("tables.kept.KEPT", 1), patch("tables.logs.LEAVING", 1):
        for number in range(4):
            logs.write({f"inbox/normal/u{number}": LogState(epoch=7, seq=1, src=1, n=1, prints=b"")})
    folder = tmp_path / "tables" / "inbox" / "logs"
    assert folder.exists()
    assert all(logs.get(f"inbox/normal/u{number}", 7) for number in range(4))
    worker.handed_over()
    assert not any(logs.get(f"inbox/normal/u{number}", 7) for number in range(4))
    assert not folder.exists()


async def test_it_subscribes_to_what_earlier_versions_do(worker: InboxWorker) -> None:
    assert {"tocsin-inbox-connections-changelog", "tocsin-inbox-logs-changelog"} == set(worker.app.tables.files)
