"""What the benchmark of the inbox role waits for before it counts."""

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bench import inbox


@pytest.fixture(autouse=True)
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "REST", 0.2)


def receivers(*, acknowledged: bool) -> Any:
    return SimpleNamespace(acknowledged=acknowledged)


async def test_what_is_not_acknowledged_yet_is_waited_for() -> None:
    with pytest.raises(TimeoutError):
        await inbox.rested(receivers(acknowledged=False), {}, 1.0)


@pytest.fixture
def resting() -> Iterator[tuple[int, float]]:
    """A process that has worked and now waits: its pid, and the CPU-seconds that it has used."""
    work = "import time; [None for _ in range(10_000_000)]; print(time.process_time(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        yield child.pid, float(child.stdout.readline())
        child.stdin.write(b"\n")


async def test_the_cpu_of_a_process_that_rests_is_what_it_has_used(resting: tuple[int, float]) -> None:
    pid, worked = resting
    used = await inbox.rested(receivers(acknowledged=True), {"it": pid}, 10.0)
    assert used["it"] == pytest.approx(worked, abs=0.05)
