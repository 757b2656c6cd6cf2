"""What we look at in the group: that it does not know us any more, and which topics its leader shares out."""

import asyncio
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import ConsumerStoppedError, UnknownMemberIdError
from aiokafka.protocol.commit import OffsetCommitResponse_v2, OffsetFetchRequest, OffsetFetchResponse_v1
from aiokafka.protocol.group import (
    HeartbeatRequest,
    HeartbeatResponse_v0,
    JoinGroupRequest,
    SyncGroupRequest,
    SyncGroupResponse_v0,
)
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver

from streams.app import make_app
from streams.membership import FETCH_EVERY, ConsumerThread, Pace, codes, knows_us, topics_known, urgent_first
from streams.settings import Settings

UNKNOWN = 25


def test_an_answer_has_one_code_or_one_a_partition() -> None:
    assert list(codes(HeartbeatResponse_v0(UNKNOWN))) == [UNKNOWN]
    assert list(codes(SyncGroupResponse_v0(0, b""))) == [0]
    assert list(codes(OffsetCommitResponse_v2([("t", [(0, 0), (1, UNKNOWN)])]))) == [0, UNKNOWN]
    assert list(codes(OffsetFetchResponse_v1([("t", [(0, 25, "", 0)])]))) == [0], "25 is an offset here"


def test_a_member_is_known_by_whatever_the_group_answers_to_it_as_one() -> None:
    """Not by heartbeats alone: a place may be taken before the first of them."""
    rebalancing = 27
    assert knows_us(SyncGroupRequest("g", 1, "m", "w", []), SyncGroupResponse_v0(0, b""))
    assert knows_us(HeartbeatRequest("g", 1, "m"), HeartbeatResponse_v0(rebalancing))
    assert not knows_us(HeartbeatRequest("g", 1, "m"), HeartbeatResponse_v0(UNKNOWN))
    assert not knows_us(OffsetFetchRequest("g", []), OffsetFetchResponse_v1([("t", [(0, 25, "", 0)])])), (
        "asked by anybody"
    )


async def test_who_was_replaced_asks_for_its_place_no_more() -> None:
    """The Kafka client would join again at once, and throw the other out, before the worker has stopped."""
    answers = [SyncGroupResponse_v0(0, b""), HeartbeatResponse_v0(UNKNOWN), HeartbeatResponse_v0(UNKNOWN)]
    asked: list[Any] = []
    ends = 0

    async def ask(request: Any) -> Any:
        asked.append(request)
        return answers.pop(0)

    async def end() -> None:
        nonlocal ends
        ends += 1

    coordinator = SimpleNamespace(_send_req=ask)
    thread: Any = SimpleNamespace(app=SimpleNamespace(conf=SimpleNamespace(broker_session_timeout=60.0)), _end=end)
    ConsumerThread._watch(thread, coordinator)
    await coordinator._send_req(SyncGroupRequest("g", 1, "m", "w", []))
    heartbeat = HeartbeatRequest("g", 1, "m")
    await coordinator._send_req(heartbeat)
    with pytest.raises(UnknownMemberIdError):
        await coordinator._send_req(JoinGroupRequest("g", 1, 1, "", "w", "consumer", []))
    await coordinator._send_req(heartbeat)
    assert (asked[1:], ends) == ([heartbeat, heartbeat], 1)


class Client:
    """A Kafka client whose metadata can be had from the third request on."""

    def __init__(self) -> None:
        self.requests = 0
        self.topics: set[str] = set()
        self.cluster = self

    def set_topics(self, topics: set[str]) -> asyncio.Future[bool]:
        self.topics = set(topics)
        return self.force_metadata_update()

    def force_metadata_update(self) -> asyncio.Future[bool]:
        self.requests += 1
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        answer.set_result(self.requests >= 3)
        return answer

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0, 1} if self.requests >= 3 and topic in self.topics and topic != "missing" else None


async def test_a_leader_waits_for_the_topics_that_it_shares_out() -> None:
    client = Client()
    assert await topics_known(client, {"a", "b"}, within=5)
    assert client.requests == 3
    assert await topics_known(client, {"a", "b"}, within=5)


async def test_a_leader_waits_for_a_topic_that_there_is_not_for_a_while_only() -> None:
    assert not await topics_known(Client(), {"a", "missing"}, within=0.3)


def test_what_is_urgent_is_given_first_and_the_rest_as_it_came() -> None:
    places = [("bulk", 1), ("bulk", 0), ("normal", 0), ("critical", 3), ("changelog", 0), ("critical", 1)]
    waiting = OrderedDict((TopicPartition(*place), None) for place in places)
    urgent_first(waiting, {"critical": 1, "normal": 2, "bulk": 3})
    assert [tuple(place) for place in waiting] == [
        ("changelog", 0), ("critical", 3), ("critical", 1), ("normal", 0), ("bulk", 1), ("bulk", 0)
    ]  # fmt: skip


async def test_a_thread_that_ends_leaves_nobody_waiting_for_its_answer(tmp_path: Path) -> None:
    thread = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2).consumer._thread
    waiting = asyncio.create_task(thread.call_thread(asyncio.sleep, 0))
    await asyncio.sleep(0)
    assert not waiting.done()  # the thread never ran
    await thread.on_thread_stop()
    async with asyncio.timeout(5):
        with pytest.raises(ConsumerStoppedError):
            await waiting
        with pytest.raises(ConsumerStoppedError):
            await thread.call_thread(asyncio.sleep, 0)
    thread.thread_loop.close()


async def test_the_client_is_paced_and_makes_no_pause_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begun(_self: Any) -> None:
        """Start no client."""

    thread: Any = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2).consumer._thread
    fetcher = SimpleNamespace(_prefetch_backoff=0.1, _get_actions_per_node=lambda _: ([], {}, 1.0, False, []))
    client = SimpleNamespace(_fetcher=fetcher, _coordinator=SimpleNamespace(_perform_assignment=None))
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "on_start", begun)
    monkeypatch.setattr(thread, "_ensure_consumer", lambda: client)
    await thread.on_start()
    thread.thread_loop.close()  # the loop of a thread that was never started
    assert fetcher._prefetch_backoff == 0.0
    assert isinstance(fetcher._get_actions_per_node, Pace)


class TestPace:
    def test_a_fetch_is_put_off_until_some_ms_after_the_last_one(self) -> None:
        now = 10.0
        pace = Pace(lambda _: (["fetch"], {}, 0.2, False, ["resumed"]), clock=lambda: now)
        assert pace(None) == (["fetch"], {}, 0.2, False, ["resumed"])
        now += FETCH_EVERY * 0.75
        put_off = pace(None)
        assert put_off == ([], {}, pytest.approx(FETCH_EVERY * 0.25), False, [])
        now += FETCH_EVERY * 0.25 + 1e-9
        assert pace(None)[0] == ["fetch"]

    def test_nothing_is_decided_meanwhile(self) -> None:
        asked: list[object] = []

        def decide(assignment: object) -> tuple[Any, ...]:
            asked.append(assignment)
            return (["fetch"], {}, 0.2, False, [])

        pace = Pace(decide, clock=lambda: 10.0)
        for assignment in ("first", "second"):
            pace(assignment)
        assert asked == ["first"]

    def test_what_is_no_fetch_puts_nothing_off(self) -> None:
        answers: list[Any] = [([], {1: ["offset"]}, 0.2, False, []), (["fetch"], {1: ["offset"]}, 0.2, False, [])]
        pace = Pace(lambda _: answers.pop(0), clock=lambda: 10.0)
        assert pace(None)[1] == {1: ["offset"]}
        assert pace(None)[0] == ["fetch"]
