"""A worker's tables are lost, broken or of yesterday: experiment 7 of the fault matrix.

Tables are caches: what counts is in the store. Nearly all states of logs are in files here, as they are where a worker
has more logs than fit into its memory.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import rocksdict

from proof.cluster import Cluster
from proof.experiment import Run, experiment
from streams.connections import Sessions
from tests.faults.conftest import MakeCluster

WORKER: Final = "worker-0"
USERS: Final = 40
DEVICES: Final = ("phone", "web")

_sessions = msgspec.msgpack.Decoder(Sessions)


def files_of(cluster: Cluster) -> list[Path]:
    """Return the folders of the table of connections, one for each partition."""
    found = sorted(cluster.tables(WORKER).rglob("connections-*.db"))
    assert found, f"{cluster.tables(WORKER)} has no files of connections"
    return found


def items(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    """Give the keys and values of the table of connections of a worker that does not run."""
    for path in files_of(cluster):
        options = rocksdict.Options(raw_mode=True)
        files: Any = rocksdict.Rdict(str(path), options, access_type=rocksdict.AccessType.read_only())
        try:
            for key, value in files.items():
                if not key.startswith(b"__"):  # what the table notes for itself
                    yield key.decode(), value
        finally:
            files.close()


def delete(cluster: Cluster, _kept: Path) -> None:
    """Lose the whole data folder."""
    shutil.rmtree(cluster.tables(WORKER))


def corrupt(cluster: Cluster, _kept: Path) -> None:
    """Let files hold something else: the manifest of one partition, the log of another, a table file where there is."""
    for number, path in enumerate([*files_of(cluster), *cluster.tables(WORKER).rglob("logs")]):
        kind = ("MANIFEST-*", "*.log", "*.sst", "CURRENT")[number % 4]
        for file in path.glob(kind):
            size = file.stat().st_size
            with file.open("r+b") as opened:
                opened.seek(size // 3)
                opened.write(b"\xff" * max(1, size // 3))


def restore(cluster: Cluster, kept: Path) -> None:
    """Put an old copy in the place of the data folder."""
    shutil.rmtree(cluster.tables(WORKER))
    shutil.copytree(kept, cluster.tables(WORKER))


DAMAGES: Final[tuple[Callable[[Cluster, Path], None], ...]] = (delete, corrupt, restore)


async def test_deleted_corrupted_and_old_tables_do_no_harm(cluster: MakeCluster, out: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    async with (
        cluster(workers=1, gateways=1, mutant="little_memory") as running,
        experiment(
            running, "tables-lost", out=out, users=USERS, devices=DEVICES, rate=200, seconds=55, at_least=10_000
        ) as run,
    ):
        await run.progress(4_000)
        for damage in DAMAGES:
            async with run.fault(f"kill -9, then the tables: {damage.__name__}"):
                await running.down(WORKER, kill=True)
                assert list(running.tables(WORKER).rglob("logs/CURRENT"))
                if not kept.exists():
                    shutil.copytree(running.tables(WORKER), kept)
                damage(running, kept)
                begin = time.monotonic()
                await running.up(WORKER)
            await running.ready(WORKER)
            print(f"tables {damage.__name__}: ready after {time.monotonic() - begin:.1f} s")
            await run.progress(4_000)
        await run.wait(lambda: run.load.acknowledged >= 10_000, "the load is over")
        await sessions_heal(running, run)


async def sessions_heal(cluster: Cluster, run: Run) -> None:
    """Check that the table of sessions has those that are open, and then let the worker come back."""
    await run.until_all_shown(30, lambda _device, _id: True)
    await cluster.down(WORKER, kill=True)
    found = {key: _sessions.decode(value) for key, value in items(cluster)}
    assert {user: sorted(place.device for place in sessions.values()) for user, sessions in found.items()} == {
        f"user/{device.user}": sorted(DEVICES) for device in run.devices.swarm.devices
    }
    await cluster.up(WORKER)
