"""What processes take over a long run: memory, descriptors and threads, from /proc, a line a look in a file."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

EVERY: Final = 10.0  # s between looks
LONG: Final = 1200.0  # s; a shorter life says nothing about growth: buffers of tables take some minutes to fill
GROWTH: Final = 10.0  # MB in the second half of a life; tables make teeth of 4 MB
FILES: Final = 10  # descriptors, without those of sessions, that a settled process may gain
THREADS: Final = 4  # the same of threads
_MB: Final = 1024.0  # kB


class Sample(msgspec.Struct, frozen=True):
    """One look at a process: s since the run began, MB, descriptors without those of sessions, threads, sessions."""

    at: float
    name: str
    pid: int
    rss: float
    pss: float
    files: int
    threads: int
    sessions: int = 0


class Life(msgspec.Struct, frozen=True):
    """One process from its first sample to its last; figures are of the second half of its life."""

    name: str
    pid: int
    seconds: float
    first: float  # MB, at the beginning of the life
    last: float
    drift: float  # MB an hour, least squares
    files: int  # how many more at the end than at the beginning
    threads: int

    @property
    def settled(self) -> bool:
        """Whether it lived long enough to say something."""
        return self.seconds >= LONG

    @property
    def grows(self) -> bool:
        """Whether it would end badly."""
        grown = self.drift * self.seconds / 2 / 3600
        return self.settled and (grown > GROWTH or self.files > FILES or self.threads > THREADS)


def look(at: float, name: str, pid: int, sessions: int = 0) -> Sample | None:
    """Return a sample of a process; None if it is gone."""
    try:
        rollup = dict(_lines(Path(f"/proc/{pid}/smaps_rollup").read_text()))
        status = dict(_lines(Path(f"/proc/{pid}/status").read_text()))
        files = len(list(Path(f"/proc/{pid}/fd").iterdir())) - sessions
    except (OSError, ValueError):
        return None
    if "Rss" not in rollup:  # it has just ended
        return None
    return Sample(
        round(at, 1), name, pid, rollup["Rss"] / _MB, rollup["Pss"] / _MB, files, int(status["Threads"]), sessions
    )


def _lines(text: str) -> Iterable[tuple[str, float]]:
    """Give the numbers of /proc, in kB where they are sizes."""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdecimal():
            yield name, float(number[0])


class Sampler:
    """Looks at processes every 10 s while the context lasts and adds each look to a file of JSON lines.

    `processes` gives {name: process id} of what runs now, `sessions` how many of a process's descriptors are clients'.
    """

    def __init__(
        self,
        path: Path,
        processes: Callable[[], Mapping[str, int]],
        sessions: Callable[[str], Awaitable[int]],
        every: float = EVERY,
    ) -> None:
        self.samples: list[Sample] = []
        self._path = path
        self._processes = processes
        self._sessions = sessions
        self._every = every
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        begin = time.monotonic()
        while True:
            for name, pid in self._processes().items():
                sessions = await self._sessions(name)
                if sample := await asyncio.to_thread(look, time.monotonic() - begin, name, pid, sessions):
                    self.samples.append(sample)
                    await asyncio.to_thread(self._add, sample)
            await asyncio.sleep(self._every)

    def _add(self, sample: Sample) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(sample) + b"\n")


def lives(samples: Iterable[Sample]) -> list[Life]:
    """Return the lives of processes, by name and time."""
    found: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.name, sample.pid].append(sample)
    return [_life(name, pid, seen) for (name, pid), seen in sorted(found.items(), key=lambda p: (p[0][0], p[1][0].at))]


def _life(name: str, pid: int, seen: Sequence[Sample]) -> Life:
    seconds = seen[-1].at - seen[0].at
    half = [sample for sample in seen if sample.at >= seen[0].at + seconds / 2]
    return Life(
        name=name,
        pid=pid,
        seconds=round(seconds),
        first=round(seen[0].rss, 1),
        last=round(seen[-1].rss, 1),
        drift=round(slope([(sample.at, sample.rss) for sample in half]) * 3600, 2),  # others' processes change PSS, too
        files=half[-1].files - half[0].files,
        threads=half[-1].threads - half[0].threads,
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line through points by least squares; 0 for less than two."""
    if len(points) < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def table(found: Sequence[Life]) -> str:
    """Return lives in lines, in the order in which they come; those that were too short to be judged are counted."""
    lasting = [one for one in found if one.settled]
    short = len(found) - len(lasting)
    head = "process          pid      s  first MB  last MB     MB/h  files  threads  verdict"
    rows = [
        f"{one.name:<12} {one.pid:>7} {one.seconds:>6.0f} {one.first:>9.1f} {one.last:>8.1f} {one.drift:>8.2f} "
        f"{one.files:>+6} {one.threads:>+8}  {'GROWS' if one.grows else 'flat'}"
        for one in lasting
    ]
    return "\n".join([head, *rows, *([f"and {short} lives that were too short to be judged"] if short else [])])
