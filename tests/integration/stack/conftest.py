import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WITHIN = 60.0  # s

_RUN = """
import sys
from pathlib import Path
from cli.up import up
from schemas.errors import TocsinError

folder = Path(sys.argv[1])
fake = [sys.executable, sys.argv[2], str(folder)]
try:
    data = folder / "data" if sys.argv[5] == "data" else None
    sys.exit(up(sys.argv[3] or None, int(sys.argv[4]), 0, folder / "ready.json", 2, 1, data, True, fake))
except TocsinError as exc:
    sys.exit(f"tocsin: {exc}")
"""


def until(condition: Callable[[], Any], within: float = WITHIN) -> Any:
    """Return what the condition gives once that is true."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.02)
    return found


def gone(pid: int) -> bool:
    """Whether no process of that id runs; one that nobody has waited for yet is gone, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Up:
    """`up` as a process of its own, with fakes instead of workers and gateways."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, stack: str = "embedded", port: int = 0, *, data: bool = True, settings: dict[str, str] | None = None
    ) -> None:
        fake = Path(__file__).with_name("fake_parts.py")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_") or k == "TOCSIN_CACHE"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[3])
        environment |= settings or {}
        place = "data" if data else "anywhere"
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN, str(self.folder), str(fake), stack, str(port), place],
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env=environment,
            )

    def ready(self) -> dict[str, Any]:
        """Return the ready file once it is there."""
        assert self.process is not None
        path = self.folder / "ready.json"
        until(lambda: path.exists() or self.process.poll() is not None)  # type: ignore[union-attr]  # set above
        assert path.exists(), self.said()
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WITHIN)

    def ended(self) -> int:
        """Return the exit code once it ended by itself."""
        assert self.process is not None
        return self.process.wait(WITHIN)

    def said(self) -> str:
        return (self.folder / "err").read_text()

    def events(self) -> list[str]:
        return (self.folder / "events").read_text().splitlines()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait()
