"""How a worker starts and ends, and what it does about servers that are away and tables that are broken."""

import os
from pathlib import Path

import pytest

from tests.integration.worker.conftest import Deployment


def test_a_worker_that_is_told_to_stop_ends_with_0_and_the_next_one_goes_on(deployment: Deployment) -> None:
    deployment.start()
    deployment.wait_until_ready()
    deployment.send_note("ann", id="a")
    deployment.expect_rows("ann", 1)
    assert deployment.stop() == 0
    deployment.send_note("ann", id="a")
    deployment.send_note("ann", id="b")
    deployment.start()
    rows = deployment.expect_rows("ann", 2)
    assert [row.key for row in rows] == ["a", "b"]
    assert deployment.stop() == 0


def ends_with_one_line(deployment: Deployment, about: str, **settings: str) -> None:
    deployment.start(**settings)
    assert deployment.process is not None
    assert deployment.process.wait(40) == 1
    critical = [line for line in deployment.said().splitlines() if " CRITICAL " in line]
    assert len(critical) == 1, deployment.said()
    assert about in critical[0]
    assert "Traceback" not in deployment.said()


def test_without_kafka_the_worker_does_not_start_and_says_so(deployment: Deployment, free_port: int) -> None:
    ends_with_one_line(deployment, str(free_port), TOCSIN_KAFKA=f"127.0.0.1:{free_port}")


def test_without_the_stores_tables_the_worker_does_not_start_and_says_what_to_do(
    deployment: Deployment, tmp_path: Path
) -> None:
    ends_with_one_line(deployment, "tocsin store apply", TOCSIN_STORE=f"sqlite://{tmp_path}/other.db")


@pytest.mark.parametrize("what", ["CURRENT", "*"])
def test_broken_tables_are_made_again(deployment: Deployment, what: str) -> None:
    deployment.start()
    deployment.wait_until_ready()
    for number in range(50):
        deployment.send_note("ann", id=f"a{number}")
    deployment.expect_rows("ann", 50)
    assert deployment.stop() == 0
    files = [path for path in (deployment.folder / "data" / "tables").rglob(what) if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(os.urandom(path.stat().st_size + 100))
    deployment.start()
    deployment.send_note("ann", id="a7")
    deployment.send_note("ann", id="b")
    rows = deployment.expect_rows("ann", 51)
    assert rows[-1].key == "b"
    assert deployment.stop() == 0
