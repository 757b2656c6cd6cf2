"""What of the store tells that a topic was made again by others."""

import pytest
from faust.types import TP

from agents.sources import Sources
from schemas.ids import source
from schemas.records import Notification
from schemas.rows import Head, Mark
from streams.inbox import Incoming
from streams.remade import TopicRemade


class Broker:
    def __init__(self, end: int) -> None:
        self.end = end
        self.asked: list[TP] = []

    async def ends(self, *partitions: TP) -> dict[TP, int]:
        self.asked += partitions
        return dict.fromkeys(partitions, self.end)


def head(offset: int, incarnation: int = 1, key: str = "") -> Head:
    src = source(incarnation, offset)
    return Head(seq=1, src=src, n=1, recent=(Mark(1, src, 1, key, b""),))


def record(offset: int, key: str = "") -> Incoming:
    return Incoming(
        src=source(1, offset), ts=1, id="i", key=key, print=b"", digest=b"", notification=Notification(user="u")
    )


async def test_what_lies_below_the_end_is_fine_and_asked_for_once() -> None:
    broker = Broker(10)
    sources = Sources(broker.ends)
    await sources.check("t", 1, [(0, head(9), []), (0, head(4), [])])
    await sources.check("t", 1, [(0, head(3), [])])
    assert broker.asked == [TP("t", 0)]


async def test_what_lies_at_the_end_or_beyond_is_refused() -> None:
    with pytest.raises(TopicRemade, match="partition 0 ends at 10, and offset 10 was processed"):
        await Sources(Broker(10).ends).check("t", 1, [(0, head(10), [])])


async def test_an_empty_log_and_an_earlier_incarnation_say_nothing() -> None:
    broker = Broker(0)
    await Sources(broker.ends).check("t", 2, [(0, Head(), []), (1, head(99, incarnation=1), [])])
    assert broker.asked == []


async def test_another_record_at_the_same_offset_is_refused() -> None:
    with pytest.raises(TopicRemade, match="another record was processed as offset 4"):
        await Sources(Broker(10).ends).check("t", 1, [(0, head(4, key="a"), [record(4, key="b")])])


async def test_the_same_record_again_is_fine() -> None:
    await Sources(Broker(10).ends).check("t", 1, [(0, head(4, key="a"), [record(4, key="a"), record(5, key="b")])])


async def test_what_is_known_is_forgotten_with_the_partitions() -> None:
    broker = Broker(10)
    sources = Sources(broker.ends)
    await sources.check("t", 1, [(0, head(9), [])])
    sources.forget()
    broker.end = 3
    with pytest.raises(TopicRemade):
        await sources.check("t", 1, [(0, head(9), [])])
