"""A worker's tables are lost, broken or of yesterday: experiment 7 of the fault matrix.

Tables are caches: what the store's rows say is the model, and after a recovery every value has to agree with it.
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
from schemas.logs import LANES, inbox_log, log_key
from store.urls import open_store
from streams.connections import Sessions
from streams.inbox import LogState, anchored
from tests.faults.conftest import MakeCluster

WORKER: Final = "worker-0"
USERS: Final = 40
DEVICES: Final = ("phone", "web")

_states = msgspec.msgpack.Decoder(LogState)
_sessions = msgspec.msgpack.Decoder(Sessions)


def files_of(cluster: Cluster, table: str) -> list[Path]:
    """Return the folders of a table's partitions."""
    found = sorted(cluster.tables(WORKER).rglob(f"{table}-*.db"))
    assert found, f"{cluster.tables(WORKER)} has no files of {table}"
    return found


def items(cluster: Cluster, table: str) -> Iterator[tuple[str, bytes]]:
    """Give the keys and values of a table whose worker does not run."""
    for path in files_of(cluster, table):
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
    for table in ("logs", "connections"):
        for number, path in enumerate(files_of(cluster, table)):
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


async def test_deleted_corrupted_and_old_tables_become_what_the_rows_say(
    cluster: MakeCluster, out: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    async with cluster(workers=1, gateways=1) as running:
        async with experiment(
            running, "tables-lost", out=out, users=USERS, devices=DEVICES, rate=200, seconds=55, at_least=10_000
        ) as run:
            await run.progress(4_000)
            for damage in DAMAGES:
                async with run.fault(f"kill -9, then the tables: {damage.__name__}"):
                    await running.down(WORKER, kill=True)
                    if not kept.exists():
                        shutil.copytree(running.tables(WORKER), kept)
                    damage(running, kept)
                    await running.up(WORKER)
                await running.ready(WORKER)
                await run.progress(4_000)
            await run.wait(lambda: run.load.acknowledged >= 10_000, "the load is over")
            await sessions_heal(running, run)
        await tables_are_the_model(running)
        for damage in DAMAGES:
            await running.down(WORKER, kill=True)
            damage(running, kept)
            begin = time.monotonic()
            await running.up(WORKER)
            await running.ready(WORKER)
            print(f"tables {damage.__name__}: ready after {time.monotonic() - begin:.1f} s")
            await tables_are_the_model(running)


async def sessions_heal(cluster: Cluster, run: Run) -> None:
    """Check that the table of sessions has those that are open, and then let the worker come back."""
    await run.until_all_shown(30, lambda _device, _id: True)
    await cluster.down(WORKER, kill=True)
    found = {key: _sessions.decode(value) for key, value in items(cluster, "connections")}
    assert {user: sorted(place.device for place in sessions.values()) for user, sessions in found.items()} == {
        f"user/{device.user}": sorted(DEVICES) for device in run.devices.swarm.devices
    }
    await cluster.up(WORKER)


async def tables_are_the_model(cluster: Cluster) -> None:
    """Check that every value of the table of logs is the fold of its log's rows, and that no log is missing."""
    await cluster.ready(WORKER)
    await cluster.down(WORKER, kill=True)
    states = {key: _states.decode(value) for key, value in items(cluster, "logs")}
    store = open_store(cluster.environment({}, direct=True)["TOCSIN_STORE"])
    await store.open()
    try:
        logs = [log_key(inbox_log(lane), f"u{number}") for lane in LANES for number in range(USERS)]
        heads = await store.heads(logs)
        assert {key for key, head in heads.items() if head.seq} == set(states)
        for key, state in states.items():
            assert state == anchored(state.epoch, heads[key]), key
    finally:
        await store.close()
    await cluster.up(WORKER)
