"""A child process that ends when we do, writes its output to a log and can say why it ended."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from schemas.errors import ServerFailed
from stack.logs import last_error

_LEASH: Final = str(Path(__file__).with_name("leash.py"))


class Child:
    """One command, in the folder `cwd`, else in ours. It can be spawned again after it ended; `log` gets its output."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = None if environment is None else dict(environment)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the last spawn. Raises `ServerFailed` before the first."""
        if self._process is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was spawned and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs or before the first spawn."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Start it without waiting, in the main thread: the kernel ends a child with the *thread* that made it."""
        if threading.current_thread() is not threading.main_thread():
            raise ServerFailed(f"{self.name} has to be started in the main thread")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - no shell: the command comes as a list from our own code
                [sys.executable, "-I", "-S", _LEASH, str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._cwd,
                start_new_session=True,  # Ctrl-C is for us, who end children in order
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, within: float) -> bool:
        """Return whether it ended within so many seconds."""
        if self._process is None:
            return True
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, within: float) -> bool:
        """Ask it to end, kill it after `within` seconds, wait. Returns whether it ended by itself."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # a paused one could not hear
        if self.wait(within):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """End it at once and wait until it is gone."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def obituary(self) -> str:
        """Return one line: how it ended, the last error in its log and where the log is."""
        reason = last_error(self.log).removeprefix("tocsin: ")
        return f"{self.name} {_ending(self.code)}: {reason or 'its log is empty'} (log: {self.log})"


def _ending(code: int | None) -> str:
    if code is None:
        return "is running"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"
