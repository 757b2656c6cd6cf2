"""Processes of ours that are kept up, ended, frozen and looked at: the workers and gateways of one experiment."""

import asyncio
import os
import signal
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from schemas.errors import ServerFailed
from stack.ports import free_port
from stack.program import Program

MUTANTS: Final = "tests.faults.mutant"  # runs our command line with one protection switched off
_LOOK_EVERY: Final = 0.1  # s
_STOPS_WITHIN: Final = 20.0  # s
_READY_WITHIN: Final = 60.0  # s


class Processes(ABC):
    """Workers and gateways by name; what ends without having been told to is started again after `back_after` s.

    `instances`: workers are static members of their group; `mutant`: the protection that all lack (none: "");
    `on_exit` is told of processes that end by themselves: (name, one line how).
    """

    def __init__(self, folder: Path, *, back_after: float, instances: bool, mutant: str | None) -> None:
        self.folder = folder
        self.exits: list[tuple[float, str]] = []  # (monotonic s, how) of processes that ended by themselves
        self.on_exit: Callable[[str, str], None] = lambda _name, _how: None
        self._back_after = back_after
        self._instances = instances
        self._mutant = mutant
        self._programs: dict[str, Program] = {}
        self._kept: set[str] = set()  # started again when they end
        self._told: set[str] = set()  # ended by us, and to be started again

    @abstractmethod
    def environment(self, settings: Mapping[str, str], *, direct: bool = False) -> dict[str, str]:
        """Return the environment of a process with these settings."""

    @property
    def workers(self) -> list[str]:
        """The names of the workers that should run."""
        return [name for name in self._programs if name.startswith("worker") and name in self._kept]

    @property
    def gateways(self) -> list[str]:
        """The names of the gateways that should run."""
        return [name for name in self._programs if name.startswith("gateway") and name in self._kept]

    async def add(self, kind: str) -> str:
        """Start one more "worker" or "gateway" and return its name without waiting for it."""
        name = f"{kind}-{sum(each.startswith(kind) for each in self._programs)}"
        await self.up(name)
        return name

    async def up(self, name: str, *, mutant: str | None = None, **settings: str) -> None:
        """Start a process (again), with these settings besides those of the cluster; does not wait for it."""
        self._programs[name] = self._program(name, mutant or self._mutant, settings)
        self._programs[name].spawn()
        self._kept.add(name)

    def _program(self, name: str, mutant: str | None, settings: Mapping[str, str]) -> Program:
        kind = name.partition("-")[0]
        module = [MUTANTS, mutant, "--"] if mutant else ["cli"]
        arguments = ["worker", "--role", "inbox"] if kind == "worker" else ["gateway"]
        port = free_port()
        own = {"TOCSIN_METRICS_PORT": str(port), "TOCSIN_DATA": str(self.folder / "tables" / name)}
        if self._instances:
            own["TOCSIN_INSTANCE"] = name
        return Program(
            name,
            [sys.executable, "-m", *module, *arguments],
            environment=self.environment({**own, **settings}),
            metrics_port=port,
            log=self.folder / "logs" / f"{name}.log",
            stop_within=_STOPS_WITHIN,
        )

    async def kill(self, name: str) -> None:
        """End a process with kill -9. It comes back by itself."""
        self._told.add(name)
        await asyncio.to_thread(self._programs[name].kill)

    async def restart(self, name: str) -> None:
        """End a process with SIGTERM. It comes back by itself."""
        self._told.add(name)
        await asyncio.to_thread(self._programs[name].stop)

    async def down(self, name: str, *, kill: bool = False) -> None:
        """End a process with SIGTERM (or kill -9); it stays away until `up`."""
        self._kept.discard(name)
        await asyncio.to_thread(self._programs[name].kill if kill else self._programs[name].stop)

    def freeze(self, name: str) -> None:
        """Stop a process with SIGSTOP."""
        os.kill(self._programs[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen process go on."""
        os.kill(self._programs[name].pid, signal.SIGCONT)

    def pid(self, name: str) -> int:
        """Return the process id of a process as it is now."""
        return self._programs[name].pid

    def log(self, name: str) -> str:
        """Return what a process has written so far, over all its lives."""
        return self._programs[name].log.read_text(errors="replace")

    def tables(self, name: str) -> Path:
        """Return the folder of a worker's tables."""
        return self.folder / "tables" / name

    # -- looking -------------------------------------------------------------------------------------------------------

    async def ready(self, *names: str, within: float = _READY_WITHIN) -> None:
        """Return when the named processes (all that should run, if none is) say that they are ready.

        Raises `ServerFailed` if that takes too long.
        """
        end = time.monotonic() + within
        for name in names or sorted(self._kept):
            while not await self._is_ready(name):
                if time.monotonic() > end:
                    raise ServerFailed(f"{name} was not ready within {within:.0f} s: {self._programs[name].unready}")
                await asyncio.sleep(_LOOK_EVERY)

    async def _is_ready(self, name: str) -> bool:
        try:
            return await asyncio.to_thread(self._programs[name].ready)
        except ServerFailed:  # it has ended, and will come back
            return False

    async def metric(self, name: str, metric: str) -> float:
        """Return the sum of a process's samples that begin so; 0 if there are none. Raises `OSError`."""
        text = await asyncio.to_thread(_fetch, self._programs[name].metrics_url)
        lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(metric))
        return sum(float(value) for _, _, value in lines)

    async def owned(self, partitions: int = 4, within: float = _READY_WITHIN) -> None:
        """Return when the workers own all partitions of a topic together. Raises `ServerFailed`."""
        end = time.monotonic() + within
        while (now := await self._owned_now()) != partitions:
            if time.monotonic() > end:
                raise ServerFailed(f"after {within:.0f} s the workers own {now:.0f} of {partitions} partitions")
            await asyncio.sleep(_LOOK_EVERY)

    async def _owned_now(self) -> float:
        try:
            return sum([await self.metric(name, "tocsin_partitions_owned") for name in self.workers])
        except OSError:
            return -1

    def rss(self, name: str) -> int:
        """Return the resident bytes of a process; 0 if it does not run."""
        return int(self._look(name, lambda process: process.memory_info().rss))

    def files(self, name: str) -> int:
        """Return how many descriptors a process has open; 0 if it does not run."""
        return int(self._look(name, lambda process: process.num_fds()))

    def _look(self, name: str, look: Callable[[Any], int]) -> int:
        try:
            return look(psutil.Process(self._programs[name].pid))
        except psutil.Error:  # it is gone
            return 0

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            for name in sorted(self._kept):
                program = self._programs[name]
                if program.running:
                    continue
                if name not in self._told:
                    how = program.obituary()
                    self.exits.append((time.monotonic(), how))
                    self.on_exit(name, how)
                self._told.discard(name)
                await asyncio.sleep(self._back_after)
                if name in self._kept and not program.running:
                    program.spawn()


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own process on loopback
        return str(answer.read().decode())
