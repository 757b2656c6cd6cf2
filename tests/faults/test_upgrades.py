"""Old and new version side by side, forth and back: experiment 23 of the fault matrix.

The old version is a commit of this repository, run from a temporary folder by the same Python and dependencies.
"""

import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

from proof.cluster import Cluster
from proof.experiment import Run, experiment
from tests.faults.conftest import MakeCluster
from tests.faults.offsets import SOURCES, all_committed

ROOT: Final = Path(__file__).parents[2]
BEFORE: Final = "10a1e13"  # before limits, replay and revocations; its store lacks the migration 0002
BOUND: Final = 45.0  # s
FLOOD: Final = 700  # records at once; of these the limit of 600/60 drops some, which only the new version knows


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which our commands are those of the old version."""
    folder = tmp_path_factory.mktemp("old")
    archive = folder.with_suffix(".tar")
    command = ["git", "-C", str(ROOT), "archive", f"--output={archive}", BEFORE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this clone does not have the commit {BEFORE}: {done.stderr.strip()}")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}  # else the working folder would come first


async def replace(running: Cluster, run: Run, name: str, version: str, settings: dict[str, str]) -> None:
    """End a process by SIGTERM and start the other version in its place, with its data folder."""
    async with run.fault(f"{name} becomes {version}"):
        await running.down(name)
        await running.up(name, **settings)
        await running.ready(name)
    await running.owned()


async def test_old_and_new_version_side_by_side_and_back_lose_nothing(
    cluster: MakeCluster, out: Path, old: dict[str, str]
) -> None:
    new = {"PYTHONPATH": str(ROOT)}
    async with cluster(workers=2, gateways=2, **old) as running:
        async with experiment(
            running, "rolling-upgrade", out=out, rate=150, seconds=40, bound=BOUND, at_least=10_000, throughout=True
        ) as run:
            await run.progress(1_000)
            async with run.fault("the store and the topics become new"):
                await running.tocsin("store", "apply", **new)
                await running.tocsin("topics", "apply", **new)
            await run.progress(500)
            for name in ("worker-1", "gateway-1"):
                await replace(running, run, name, "new", new)
                flood(run)
                await run.progress(1_000)
            async with run.fault("kill -9 both workers, old and new"):
                await running.kill("worker-0")
                await running.kill("worker-1")
            await running.owned()
            await run.progress(1_000)
            for name in ("worker-0", "gateway-0"):
                await replace(running, run, name, "new", new)
                await run.progress(1_000)
            for name in ("worker-0", "gateway-0", "worker-1", "gateway-1"):
                await replace(running, run, name, "old", {})
                await run.progress(1_000)
            run.devices.swarm.devices[0].cut()
        await all_committed(
            running, BOUND, sources=[name for name in SOURCES if name != "acks"]
        )  # new, and unread there


def flood(run: Run) -> None:
    """Send some users more bulk than their limit; the records expire, since the old version knows no other reason."""
    for user in ("u0", "u1", "u2", "u3"):
        for _ in range(FLOOD):
            run.load.send(user, "bulk", expires_in=86_400)
