"""Cyclic garbage of a worker goes by the clock, however few objects there are."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest

from telemetry import garbage


class Ring:
    """Refers to itself, as a failure and its frames do."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def _python_as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


async def test_it_goes_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "EVERY", 0.001)
    garbage.seldom()
    gone = asyncio.Event()
    weakref.finalize(Ring(), gone.set)
    assert not gone.is_set()
    looking = asyncio.create_task(garbage.collect_for_ever())
    await asyncio.wait_for(gone.wait(), 5)
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
