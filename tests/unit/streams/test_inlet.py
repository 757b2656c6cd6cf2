"""Fetched records enter their agent's queue, in order, when there is one, it has room and the flow is on."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from streams.inlet import Inlet

TP0, TP1, OTHER = TP("notes", 0), TP("notes", 1), TP("urgent", 0)


class Buffered:
    def __init__(self) -> None:
        self.told: list[tuple[str, TP]] = []

    def on_buffer_full(self, tp: TP) -> None:
        self.told.append(("full", tp))

    def on_buffer_drop(self, tp: TP) -> None:
        self.told.append(("dropped", tp))


class World:
    def __init__(self) -> None:
        self.flow = FlowControlEvent(initially_suspended=False)
        self.buffered = Buffered()
        self.inlet = Inlet(self.buffered, self.flow)

    def queue(self, size: int = 100) -> Any:
        return FlowControlQueue(size, flow_control=self.flow, clear_on_resume=True)


@pytest.fixture
async def world() -> World:
    return World()


def message(tp: TP, offset: int) -> Any:
    return SimpleNamespace(tp=tp, offset=offset)


async def waits(coroutine: Any) -> "asyncio.Task[None]":
    """Return the task of what does not come to its end by itself."""
    task = asyncio.create_task(coroutine)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


def offsets(queue: Any) -> list[tuple[int, int]]:
    return [(m.tp.partition, m.offset) for m in iter(lambda: None if queue.empty() else queue.get_nowait(), None)]


async def test_records_enter_the_queue_of_their_topic_in_order(world: World) -> None:
    notes, urgent = world.queue(), world.queue()
    world.inlet.open("notes", notes)
    world.inlet.open("urgent", urgent)
    for one in (message(TP0, 1), message(TP1, 7), message(OTHER, 3), message(TP0, 2)):
        await world.inlet(one)
    assert offsets(notes) == [(0, 1), (1, 7), (0, 2)]
    assert offsets(urgent) == [(0, 3)]


async def test_a_record_waits_for_its_agent_to_begin(world: World) -> None:
    task = await waits(world.inlet(message(TP0, 1)))
    world.inlet.open("urgent", world.queue())
    await asyncio.sleep(0)
    assert not task.done()
    world.inlet.open("notes", notes := world.queue())
    await task
    assert offsets(notes) == [(0, 1)]


async def test_an_agent_that_begins_again_has_a_queue_of_its_own(world: World) -> None:
    before, after = world.queue(), world.queue()
    world.inlet.open("notes", before)
    await world.inlet(message(TP0, 1))
    world.inlet.open("notes", after)
    await world.inlet(message(TP0, 2))
    assert (offsets(before), offsets(after)) == ([(0, 1)], [(0, 2)])


async def test_nothing_enters_while_the_flow_is_suspended(world: World) -> None:
    world.inlet.open("notes", notes := world.queue())
    world.flow.suspend()
    task = await waits(world.inlet(message(TP0, 1)))
    assert notes.empty()
    world.flow.resume()
    await task
    assert offsets(notes) == [(0, 1)]


async def test_the_consumer_is_told_of_pressure_once_and_of_its_end(world: World) -> None:
    world.inlet.open("notes", notes := world.queue(10))  # under pressure from 8 on, free at 4
    for offset in range(10):
        await world.inlet(message(TP0, offset))
    assert world.buffered.told == [("full", TP0)]
    for _ in range(5):
        notes.get_nowait()
    assert world.buffered.told == [("full", TP0)]
    for _ in range(3):
        notes.get_nowait()
    assert world.buffered.told == [("full", TP0), ("dropped", TP0)]


async def test_a_full_queue_is_waited_for(world: World) -> None:
    world.inlet.open("notes", notes := world.queue(2))
    for offset in range(2):
        await world.inlet(message(TP0, offset))
    task = await waits(world.inlet(message(TP0, 2)))
    notes.get_nowait()
    await task
    assert offsets(notes) == [(0, 1), (0, 2)]


async def test_after_an_assignment_pressure_is_told_anew(world: World) -> None:
    world.inlet.open("notes", world.queue(10))
    for offset in range(9):
        await world.inlet(message(TP0, offset))
    world.inlet.restart()
    await world.inlet(message(TP0, 9))
    assert world.buffered.told == [("full", TP0), ("full", TP0)]


async def test_a_whole_fetch_enters_at_once_where_there_is_room(world: World) -> None:
    world.inlet.open("notes", notes := world.queue(10))
    assert not world.inlet.has_room(TP0, 1), "nobody knows the way yet"
    await world.inlet(message(TP0, 0))
    assert world.inlet.has_room(TP0, 9)
    assert not world.inlet.has_room(TP0, 10)
    world.inlet.put_all(TP0, [message(TP0, offset) for offset in range(1, 10)])
    assert world.buffered.told == [("full", TP0)]
    assert offsets(notes) == [(0, offset) for offset in range(10)]
    assert world.buffered.told == [("full", TP0), ("dropped", TP0)]


async def test_a_whole_fetch_wakes_the_agent(world: World) -> None:
    world.inlet.open("notes", notes := world.queue())
    await world.inlet(message(TP0, 0))
    notes.get_nowait()
    waiting = asyncio.create_task(notes.get())
    await asyncio.sleep(0)
    world.inlet.put_all(TP0, [message(TP0, 1), message(TP0, 2)])
    assert (await waiting).offset == 1
    assert offsets(notes) == [(0, 2)]


async def test_there_is_no_room_while_the_flow_is_suspended_or_the_queue_is_another_one_s(world: World) -> None:
    world.inlet.open("notes", world.queue())
    await world.inlet(message(TP0, 0))
    world.flow.suspend()
    assert not world.inlet.has_room(TP0, 1)
    world.flow.resume()
    assert world.inlet.has_room(TP0, 1)
    world.inlet.open("notes", world.queue())
    assert not world.inlet.has_room(TP0, 1)
