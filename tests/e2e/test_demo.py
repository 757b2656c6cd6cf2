"""`tocsin demo`: what somebody sees first."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.system import environment


def test_one_round_shows_everything_and_ends_with_0(tmp_path: Path) -> None:
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "demo", "--once"],
        check=False, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment(),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert "21 notifications on 3 devices, each exactly once, in order" in ended.stdout
    assert time.monotonic() - start < 60
    assert not (tmp_path / ".tocsin" / "up.json").exists()


def test_without_once_it_goes_on_until_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "demo"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment(),
    )  # fmt: skip
    try:
        assert process.stdout
        while "Tick 2" not in (line := process.stdout.readline()):
            assert line, "it ended before"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()
