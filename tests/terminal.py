"""`tocsin listen` as a test reads it: a device in a process of its own."""

import json
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.system import System, stop


class Listener:
    """A device that prints JSON; `wait` gives what it has shown so far."""

    def __init__(self, system: System, user: str, *options: str) -> None:
        self._arguments = ("listen", user, "--json", *options)
        self._system = system
        self._shown: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._process: subprocess.Popen[str] = self._system.spawn(*self._arguments)
        readers = (self._read_entries, self._read_notes)
        self._threads = [threading.Thread(target=reader, daemon=True) for reader in readers]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, at: TracebackType | None) -> None:
        stop(self._process)
        for thread in self._threads:
            thread.join(10)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def _read_entries(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._changed:
                self._shown.append(json.loads(line))
                self._changed.notify_all()

    def _read_notes(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            with self._changed:
                self._notes.append(line)
                self._changed.notify_all()

    def wait(self, count: int, within: float = 30) -> list[dict[str, Any]]:
        """Return what is shown once it is `count` entries or more."""
        with self._changed:
            in_time = self._changed.wait_for(lambda: len(self._shown) >= count, within)
            assert in_time, f"{len(self._shown)} of {count} after {within} s; {''.join(self._notes)[-2000:]}"
            return list(self._shown)

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], within: float = 30) -> dict[str, Any]:
        """Return the first entry that is wanted, once it is shown."""
        with self._changed:
            found = self._changed.wait_for(lambda: next(filter(wanted, self._shown), None), within)
            assert found, f"not shown after {within} s; {''.join(self._notes)[-2000:]}"
            return found

    def connected(self, times: int = 1, within: float = 30) -> None:
        """Wait until the gateway has said welcome so many times."""
        with self._changed:
            in_time = self._changed.wait_for(lambda: self._welcomes() >= times, within)
            assert in_time, f"{self._welcomes()} of {times} welcomes; {''.join(self._notes)[-2000:]}"

    def _welcomes(self) -> int:
        return sum(note.startswith("connected") for note in self._notes)
