"""The whole of Tocsin as one fixture: `tocsin up` on real servers, started once a session when a test asks for it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.tokens import make_token

if TYPE_CHECKING:
    from tests.browsers import Site

ROOT = Path(__file__).parents[1]
LEASH = ROOT / "stack" / "leash.py"
READY = 180.0  # s; the first start of all fetches servers
END = 40.0  # s


class System:
    """A running deployment: what its ready file says, and how to be a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.ready: dict[str, Any] = json.loads((folder / "ready.json").read_text())
        self.kafka = str(self.ready["kafka"])
        self.url = f"{self.ready['gateway']}/ws"
        self.secret = Path(self.ready["secret_file"]).read_text()

    def token(self, user: str, device: str | None = None, ttl: float = 600) -> str:
        return make_token(self.secret, user, device=device, ttl=ttl)

    def pids(self) -> dict[str, int]:
        """The processes as they are now; one that was restarted has another number."""
        pids: dict[str, int] = json.loads((self.folder / "ready.json").read_text())["pids"]
        return pids

    def tocsin(self, *arguments: str, within: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command from the folder in which the deployment runs."""
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            check=False, capture_output=True, text=True, timeout=within, cwd=self.folder, env=environment(),
        )  # fmt: skip

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command whose output is read; the caller ends it."""
        return subprocess.Popen(
            _leashed([sys.executable, "-m", "cli", *arguments]),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder, env=environment(),
        )  # fmt: skip


def environment(**variables: str) -> Mapping[str, str]:
    """The environment of a command: ours, without settings, from which our code is found in any folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_") or k == "TOCSIN_CACHE"}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


FREE_PORTS = ("--port", "0", "--api-port", "0", "--kafka-port", "0")


def start(
    folder: Path, *options: str, ports: Sequence[str] = FREE_PORTS, data: bool = True, **variables: str
) -> System:
    """Start `tocsin up` in a folder and wait until it is ready; fails with the end of its log."""
    files = ["--ready-file", str(folder / "ready.json"), *(["--data", str(folder / "data")] if data else [])]
    command = [sys.executable, "-m", "cli", "up", *ports, *files, *options]
    (folder / "ready.json").unlink(missing_ok=True)
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            _leashed(command), stdout=log, stderr=log, cwd=folder, env=environment(**variables), start_new_session=True
        )
    end = time.monotonic() + READY
    while not (folder / "ready.json").exists():
        if process.poll() is not None or time.monotonic() > end:
            stop(process)
            pytest.fail(f"tocsin up did not become ready:\n{(folder / 'up.log').read_text()[-4000:]}")
        time.sleep(0.05)
    return System(process, folder)


def stop(process: subprocess.Popen[Any]) -> int:
    """End a process as an operator would, and return its exit code; kill it if it does not obey."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def _leashed(command: Sequence[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command]


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    running = start(tmp_path_factory.mktemp("system"), "--stack", "real")
    yield running
    stop(running.process)


@pytest.fixture(scope="session")
def embedded_system(tmp_path_factory: pytest.TempPathFactory, site: "Site") -> Iterator[System]:
    running = start(tmp_path_factory.mktemp("embedded"), "--stack", "embedded", TOCSIN_ORIGINS=site.origin)
    yield running
    stop(running.process)
