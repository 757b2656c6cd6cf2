import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

WITHIN = 60.0  # s

_RUN = """
import json, sys
import msgspec
from cli.up import Wanted, up
from schemas.errors import TocsinError

try:
    sys.exit(up(msgspec.json.decode(sys.argv[1], type=Wanted, dec_hook=lambda kind, text: kind(text)), sys.argv[2:]))
except TocsinError as exc:
    print(f"tocsin: {exc}", file=sys.stderr)
    sys.exit(exc.exit_code)
except KeyboardInterrupt:
    sys.exit(130)
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
        self,
        stack: str | None = "embedded",
        *,
        data: Path | Literal["own"] | None = "own",
        settings: dict[str, str] | None = None,
        cwd: Path | None = None,
        wanted: dict[str, Any] | None = None,
        out: Any = None,
        **choice: Any,
    ) -> None:
        """Start it; `choice` are the options about servers, `wanted` the others."""
        fake = [sys.executable, str(Path(__file__).with_name("fake_parts.py")), str(self.folder)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_") or k == "TOCSIN_CACHE"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[3])
        environment |= settings or {}
        options = {
            "choice": {"stack": stack, "kafka_port": 0, **choice},
            "port": 0,
            "ready_file": str(self.folder / "ready.json"),
            "gateways": 2,
            "data": str(self.folder / "data") if data == "own" else data and str(data),
            **(wanted or {}),
        }
        with (self.folder / "out").open("w") as to, (self.folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN, json.dumps(options), *fake],
                stdout=out or to,
                stderr=err,
                cwd=cwd or self.folder,
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

    def printed(self) -> list[str]:
        return (self.folder / "out").read_text().splitlines()

    def events(self) -> list[str]:
        file = self.folder / "events"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait()
