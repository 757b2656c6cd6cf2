"""Memory and descriptors of a cluster's processes while a fault lasts: they must not grow with its length."""

import asyncio
import contextlib
import time
from collections import defaultdict
from typing import Any, Final, Self

import msgspec

from proof.cluster import Cluster
from proof.samples import slope as line

SETTLES: Final = 30.0  # s of a fault after which nothing has to grow any more
GROWTH: Final = 40.0  # MB that a process may take more than before the fault
SLOPE: Final = 5.0  # MB a minute, once it has settled: a measure of what would end in a crash, above the noise
FILES: Final = 30  # descriptors more
_EVERY: Final = 1.0  # s
_MB: Final = 1024 * 1024


class Sample(msgspec.Struct, frozen=True):
    """One look at a process: s since the beginning, MB, descriptors."""

    at: float
    rss: float
    files: int


class Watching:
    """Looks at all processes of a cluster once a second while the context lasts."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._begun = time.monotonic()
        self._samples: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)  # by name and process id
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._begun = time.monotonic()
        self._look()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            self._look()

    def _look(self) -> None:
        cluster, at = self._cluster, time.monotonic() - self._begun
        for name in (*cluster.workers, *cluster.gateways):
            with contextlib.suppress(ProcessLookupError):
                if rss := cluster.rss(name):
                    self._samples[name, cluster.pid(name)].append(Sample(at, rss / _MB, cluster.files(name)))

    def summary(self) -> dict[str, Any]:
        """Return by process: MB at the beginning and at the most, MB a minute once settled, descriptors.

        Of a process that began meanwhile (its supervisor started it again) only what comes once it has settled counts.
        """
        return {
            f"{name} ({pid})": {
                "begin": round(counted[0].rss, 1),
                "most": round(max(one.rss for one in counted), 1),
                "slope": round(slope(counted), 2),
                "files": [counted[0].files, max(one.files for one in counted)],
            }
            for (name, pid), samples in self._samples.items()
            if (counted := _counted(samples))
        }

    def assert_flat(self) -> None:
        """Raise `AssertionError` if a process grew with the length of the fault."""
        for process, seen in self.summary().items():
            grown = seen["most"] - seen["begin"]
            assert grown <= GROWTH, f"{process} grew by {grown:.0f} MB: {seen}"  # noqa: S101 - it is an assertion
            assert seen["slope"] <= SLOPE, f"{process} goes on growing: {seen}"  # noqa: S101 - the same
            assert seen["files"][1] - seen["files"][0] <= FILES, f"{process} opens files: {seen}"  # noqa: S101 - the same


def _counted(samples: list[Sample]) -> list[Sample]:
    first = samples[0].at
    return samples if first < _EVERY else [one for one in samples if one.at > first + SETTLES]


def slope(samples: list[Sample]) -> float:
    """Return by how much memory grows once it has settled, MB a minute (least squares); 0 if that was too short."""
    settled = [one for one in samples if one.at >= SETTLES]
    if len(settled) < 10:
        return 0.0
    return 60 * line([(one.at, one.rss) for one in settled])
