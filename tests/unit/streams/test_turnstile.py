"""One micro-batch at a time, the most urgent first."""

import asyncio
import time

import pytest

from streams.turnstile import Beside, Turnstile


async def pass_through(turnstile: Turnstile, priority: int, name: str, order: list[str]) -> None:
    async with turnstile.turn(priority):
        order.append(name)


async def test_the_most_urgent_goes_first_then_the_oldest() -> None:
    turnstile, order = Turnstile(), list[str]()
    async with turnstile.turn(0):
        waiting = [
            asyncio.create_task(pass_through(turnstile, priority, name, order))
            for priority, name in ((3, "bulk"), (1, "critical"), (3, "bulk2"), (0, "connections"))
        ]
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(*waiting)
    assert order == ["connections", "critical", "bulk", "bulk2"]


async def test_nobody_enters_while_another_is_inside() -> None:
    turnstile, inside = Turnstile(), 0

    async def visit() -> None:
        nonlocal inside
        async with turnstile.turn(1):
            inside += 1
            await asyncio.sleep(0)
            assert inside == 1
            inside -= 1

    await asyncio.gather(*(visit() for _ in range(20)))


async def test_it_knows_who_had_a_turn_lately() -> None:
    turnstile = Turnstile()
    async with turnstile.turn(1):
        pass
    assert turnstile.busy_lately((1, 2))
    assert not turnstile.busy_lately((2, 3))


async def test_an_exception_inside_lets_the_next_one_in() -> None:
    turnstile = Turnstile()
    with pytest.raises(ValueError, match="boom"):
        async with turnstile.turn(1):
            raise ValueError("boom")
    async with asyncio.timeout(1), turnstile.turn(1):
        pass


async def test_one_that_gives_up_waiting_blocks_nobody() -> None:
    turnstile, order = Turnstile(), list[str]()
    async with turnstile.turn(0):
        impatient = asyncio.create_task(pass_through(turnstile, 1, "impatient", order))
        patient = asyncio.create_task(pass_through(turnstile, 2, "patient", order))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
    await patient
    assert order == ["patient"]


async def test_a_turn_that_comes_together_with_a_cancellation_is_passed_on() -> None:
    turnstile, order = Turnstile(), list[str]()
    async with turnstile.turn(0):
        cancelled = asyncio.create_task(pass_through(turnstile, 1, "cancelled", order))
        next_one = asyncio.create_task(pass_through(turnstile, 2, "next", order))
        await asyncio.sleep(0)
    cancelled.cancel()  # its turn is granted, but it has not run yet
    await asyncio.gather(cancelled, return_exceptions=True)
    async with asyncio.timeout(1):
        await next_one
    assert order == ["next"]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("streams.turnstile.asyncio.sleep", sleep)
    return slept


async def test_work_beside_takes_half_of_the_time_while_there_is_live_work(pauses: list[float]) -> None:
    turnstile, turns = Turnstile(), list[str]()
    beside = Beside(turnstile, (1, 2), lambda: turns.append("alive"))
    async with turnstile.turn(3), beside.turn():
        pass
    assert pauses == []
    async with turnstile.turn(2), beside.turn():
        begun = time.monotonic()
        while time.monotonic() < begun + 0.001:  # work
            pass
    assert len(pauses) == 1
    assert pauses[0] >= 0.001
    assert turns == ["alive", "alive"]


async def test_work_beside_is_done_one_by_one_and_a_failure_lets_the_next_one_in() -> None:
    beside, inside = Beside(Turnstile(), (), lambda: None), 0

    async def work() -> None:
        nonlocal inside
        async with beside.turn():
            inside += 1
            await asyncio.sleep(0)
            assert inside == 1
            inside -= 1
            raise ValueError("boom")

    ended = await asyncio.gather(*(work() for _ in range(20)), return_exceptions=True)
    assert [str(exc) for exc in ended] == ["boom"] * 20


async def resting(*, urgent: bool) -> bool:
    """Return whether a turn beside the turnstile may begin while the one before rests."""
    turnstile = Turnstile()
    beside, over, begun = Beside(turnstile, (1,), lambda: None), asyncio.Event(), asyncio.Event()

    async def long() -> None:
        async with beside.turn(urgent=urgent):
            await asyncio.sleep(0.05)  # what it rests for as long as
        over.set()

    async def other() -> None:
        async with beside.turn():
            begun.set()

    async with turnstile.turn(1):
        pass  # it is busy lately, so turns beside it rest
    tasks = [asyncio.create_task(long()), asyncio.create_task(other())]
    await begun.wait()
    before = not over.is_set()
    await asyncio.gather(*tasks)
    return before


async def test_who_is_urgent_does_not_wait_while_others_rest() -> None:
    assert await resting(urgent=False)
    assert not await resting(urgent=True)
