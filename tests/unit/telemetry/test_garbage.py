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
    gc.collect()  # else what other tests left may be too much for a look
    garbage.seldom()
    gone = asyncio.Event()
    weakref.finalize(Ring(), gone.set)
    assert not gone.is_set()
    looking = asyncio.create_task(garbage.collect_for_ever())
    await asyncio.wait_for(gone.wait(), 5)
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking


def test_a_look_that_would_take_long_waits_for_a_minute() -> None:
    looks = garbage.Looks(0.0)
    assert looks.due(garbage.MANY, 10.0) == 1
    assert [looks.due(garbage.MANY + 1, now) for now in (20.0, 60.0, 69.0)] == [None, None, None]
    assert looks.due(garbage.MANY + 1, 70.0) == 1


def test_the_old_objects_are_looked_at_once_an_hour() -> None:
    looks = garbage.Looks(0.0)
    assert [looks.due(0, now) for now in (10.0, 3590.0, 3600.0, 3610.0, 7200.0)] == [1, 1, 2, 1, 2]
