"""What the benchmark of the inbox role waits for before it counts."""

import os
import time
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


async def test_the_cpu_of_a_process_that_rests_is_that_of_when_it_began_to() -> None:
    before = time.process_time()
    used = await inbox.rested(receivers(acknowledged=True), {"me": os.getpid()}, 10.0)
    assert before - 0.1 <= used["me"] <= time.process_time() + 0.1
