"""Disks that are full: experiment 15 of the fault matrix. The disk is a small tmpfs, which only root can mount."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.cluster import Cluster
from proof.experiment import experiment
from proof.servers import Servers
from tests.faults.conftest import MakeCluster

FULL = 8.0  # s
USERS = [f"u{number}" for number in range(50)]
MORE = 1_000.0  # records a second while the disk is full: files have room that was set aside, which goes first
BOUND = 60.0  # s
NO_SPACE = "tocsin: no space left on device"


class Disk:
    """A small file system of its own at `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave not a byte."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):  # the end is that it is full
            while True:
                file.write(bytes(64 * 1024))

    def free(self) -> None:
        """Take the filler away."""
        self._filler.unlink()


@contextlib.contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """Mount a tmpfs; skip the experiment where that is not permitted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_worker_on_a_full_disk_says_so_and_goes_on_when_there_is_space_again(
    cluster: MakeCluster, out: Path
) -> None:
    prepared = cluster(workers=1, gateways=1, store="sqlite", mutant="little_memory")
    with disk(prepared.tables("worker-0"), megabytes=64) as small:
        async with (
            prepared as running,
            experiment(
                running, "worker-disk-full", out=out, users=USERS, rate=200, seconds=55, bound=BOUND, at_least=10_000
            ) as run,
        ):
            await run.progress(2_000)
            async with run.fault("the disk of the worker is full"):
                small.fill()
                async with run.more(MORE, USERS, "normal"):
                    await run.wait(lambda: bool(running.exits), "the worker ends")
                await asyncio.sleep(FULL)  # the fault itself
                small.fill()
                small.free()
            await running.ready()
            run.notes["said"] = sorted({how for _, how in running.exits})
        said = [line for line in running.log("worker-0").splitlines() if line.startswith(NO_SPACE)]
        assert len(said) == len(running.exits) > 0  # it is the last line, each time


async def test_a_broker_on_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_space_again(
    tmp_path: Path, out: Path
) -> None:
    with disk(tmp_path / "servers" / "kafka", megabytes=300) as small, Servers(tmp_path / "servers") as servers:
        async with (
            Cluster(servers, tmp_path / "cluster", workers=2, gateways=1, store="sqlite") as running,
            experiment(running, "broker-disk-full", out=out, rate=200, seconds=60, bound=BOUND, at_least=10_000) as run,
        ):
            await run.progress(2_000)
            async with run.fault("the disk of the broker is full"):
                small.fill()
                await run.wait(lambda: not servers.kafka.running, "the broker ends")
                await asyncio.sleep(FULL)  # the fault itself
                small.free()
                await servers.start("kafka")
            await running.owned()
