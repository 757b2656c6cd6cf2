"""`lag` and `doctor` on real servers, and a worker whose work hangs."""

import json
import subprocess
import sys
from typing import Any

from telemetry.watchdog import EXIT_CODE
from tests.integration.worker.conftest import PARTITIONS, Deployment, home, until
from tests.system import _leashed

NORMAL = "notifications.normal"
HANGS = """
import asyncio, os
from cli.worker import run_worker
from store.sqlite import SqliteStore
from streams.settings import read_settings

async def append(self, batches):
    await asyncio.Event().wait()

SqliteStore.append = append
run_worker(read_settings(os.environ), "inbox")
"""


def told(deployment: Deployment, *arguments: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "cli", *arguments, "--json"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=deployment.environment(), timeout=60
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def findings_of(deployment: Deployment) -> tuple[int, dict[str, dict[str, str]]]:
    code, document = told(deployment, "doctor")
    return code, {one["check"]: one for one in document["findings"]}


def test_lag_and_doctor_before_during_and_after_a_worker(deployment: Deployment) -> None:
    for _ in range(3):
        deployment.send_note("ann")
    code, lag = told(deployment, "lag")
    assert code == 0
    (behind,) = [one for one in lag["partitions"] if one["lag"]]
    assert (behind["topic"], behind["partition"]) == (deployment.prefix + NORMAL, home("ann"))
    assert (behind["lag"], behind["committed"], lag["lag"]) == (3, None, 3)
    assert 0 < behind["behind"] < 60
    assert len(lag["partitions"]) == 5 * PARTITIONS
    code, found = findings_of(deployment)
    assert code == 1
    assert "no worker runs" in found[f"lag of {deployment.prefix}tocsin-inbox"]["advice"]
    assert {name for name, one in found.items() if one["level"] == "FAIL"} == {
        f"lag of {deployment.prefix}tocsin-inbox"
    }

    deployment.start()
    deployment.wait_until_ready()
    astray = (home("bob") + 1) % PARTITIONS
    deployment.send_note("bob", partition=astray)
    deployment.expect_rows("bob", 1)
    lag = until(lambda: (now := told(deployment, "lag")[1])["lag"] == 0 and now)
    assert lag["state"] == "Stable"
    assert all(one["owner"] for one in lag["partitions"])
    code, found = findings_of(deployment)
    assert code == 0, found
    assert found[f"producers of {deployment.prefix}{NORMAL}"]["level"] == "warn"
    assert found["clock of Kafka"]["level"] == found["clock of Redis"]["level"] == "ok"
    assert found["permissions"]["level"] == "ok"


def test_a_batch_that_hangs_ends_the_worker_with_its_stacks(deployment: Deployment) -> None:
    deployment.send_note("ann")
    with (deployment.folder / "worker.log").open("wb") as log:
        deployment.process = subprocess.Popen(
            _leashed([sys.executable, "-c", HANGS]),
            stdout=log, stderr=log, cwd=deployment.folder, env=deployment.environment(TOCSIN_STUCK="6"),
        )  # fmt: skip
    until(deployment.ended, 60)
    assert deployment.process.returncode == EXIT_CODE, deployment.said()
    assert "this worker is stuck: normal gave no sign of life for 6 s (TOCSIN_STUCK)" in deployment.said()
    assert "most recent call first" in deployment.said()


def test_a_second_worker_on_one_data_folder_is_refused_and_the_first_goes_on(deployment: Deployment) -> None:
    deployment.start()
    deployment.wait_until_ready()
    second = subprocess.run(
        [sys.executable, "-m", "cli", "worker", "--role", "inbox"], check=False, capture_output=True, text=True,
        cwd=deployment.folder, env=deployment.environment(TOCSIN_METRICS_PORT="0"), timeout=60,
    )  # fmt: skip
    assert deployment.process
    folder = deployment.folder / "data" / "tables" / "inbox"
    assert second.returncode == 1
    assert second.stderr == (
        f"tocsin: {folder} is in use by another worker, process {deployment.process.pid}; "
        "give each worker a TOCSIN_INSTANCE or a TOCSIN_DATA of its own\n"
    )
    deployment.send_note("ann")
    deployment.expect_rows("ann", 1)


def test_doctor_gives_no_advice_that_rests_on_a_store_that_it_could_not_read(deployment: Deployment) -> None:
    command = [sys.executable, "-m", "cli", "doctor", "--json"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60,
        env=deployment.environment(TOCSIN_STORE="cassandra://127.0.0.1:1/tocsin"),
    )  # fmt: skip
    found = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["store"]["level"] == "FAIL"
    assert found["topics"]["level"] == "warn"
    assert "apply" not in found["topics"]["advice"]
    assert "Kafka" in found
