"""The worker's end of the bus: when beats are due, how messages are numbered and cut, when a gateway is dead."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as ClosedError
from redis.exceptions import ResponseError

from agents import publisher as module
from agents.publisher import BEAT_AGAIN, BEAT_EVERY, BEAT_SOON, LEASE_GONE, MESSAGE_BYTES, Publisher, Rhythm
from schemas import bus
from schemas.bus import Answer, Beat, Delivery, Heard, Part, Run
from telemetry.worker import WorkerMetrics
from tests.unit.delivery.servers import Clock, Redis
from tests.unit.delivery.worker import drive


def test_a_beat_follows_traffic_twice_and_then_comes_seldom() -> None:
    rhythm = Rhythm(0.0)
    rhythm.beaten(1.0)
    assert rhythm.due() == 1.0 + BEAT_EVERY
    rhythm.traffic(5.0)
    assert rhythm.due() == 5.0 + BEAT_SOON
    rhythm.beaten(5.5)
    assert rhythm.due() == 5.0 + BEAT_AGAIN
    rhythm.beaten(7.0)
    assert rhythm.due() == 7.0 + BEAT_EVERY


def test_traffic_without_end_does_not_put_the_beat_off() -> None:
    rhythm = Rhythm(0.0)
    for now in range(100):
        rhythm.traffic(10 + now / 100)
    assert rhythm.due() == 10 + BEAT_SOON


@given(st.lists(st.tuples(st.floats(0.01, 5), st.booleans()), max_size=40))
def test_every_message_is_named_by_a_beat_soon_and_once_more(steps: list[tuple[float, bool]]) -> None:
    now, rhythm = 0.0, Rhythm(0.0)
    rhythm.beaten(now)
    beats, traffic = [0.0], []
    for pause, sends in [*steps, (30.0, False)]:
        end = now + pause
        while rhythm.due() <= end:
            now = rhythm.due()
            rhythm.beaten(now)
            beats.append(now)
        now = end
        if sends:
            rhythm.traffic(now)
            traffic.append(now)
    for sent in traffic:
        assert any(sent <= beat <= sent + BEAT_SOON + 1e-6 for beat in beats)
    for before, after in pairwise(beats):
        assert after - before <= BEAT_EVERY + BEAT_SOON + 1e-6
    if traffic:
        assert any(traffic[-1] + BEAT_AGAIN - 1e-6 <= beat <= traffic[-1] + BEAT_AGAIN + 1e-6 for beat in beats)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def publisher(clock: Clock, redis: Redis, registry: CollectorRegistry) -> Publisher:
    publisher = Publisher("redis://127.0.0.1:1/0", "", "w1", WorkerMetrics(registry))
    publisher._redis = redis
    return publisher


def part(partition: int = 0, *, size: int = 10) -> Part:
    return Part(partition, 1, deliveries=[Delivery("ann", ["s"], [Run("inbox/normal", 1, 1, 1, b"x" * size)])])


def arrived(redis: Redis, gateway: str) -> list[bus.Message]:
    messages = [bus.decode(data) for data in redis.listening[gateway]]
    redis.listening[gateway].clear()
    return messages


def numbers(messages: list[bus.Message]) -> list[int]:
    return [message.number for message in messages if isinstance(message, Heard)]


def test_messages_are_numbered_for_each_gateway(publisher: Publisher, redis: Redis) -> None:
    redis.listening = {"g1": [], "g2": []}
    drive(publisher.publish({"g1": [part()], "g2": [part()]}))
    drive(publisher.publish({"g1": [part()]}))
    assert numbers(arrived(redis, "g1")) == [1, 2]
    assert numbers(arrived(redis, "g2")) == [1]


def test_nothing_is_said_where_there_is_nothing(publisher: Publisher, redis: Redis) -> None:
    redis.listening = {"g1": []}
    drive(publisher.publish({}))
    drive(publisher.publish({"g1": []}))
    assert not redis.listening["g1"]


def test_a_message_that_redis_did_not_take_keeps_its_number(
    publisher: Publisher, redis: Redis, registry: CollectorRegistry
) -> None:
    redis.listening, redis.away = {"g1": []}, True
    drive(publisher.publish({"g1": [part()]}))
    drive(publisher.beat())
    redis.away = False
    drive(publisher.publish({"g1": [part()]}))
    assert numbers(arrived(redis, "g1")) == [2], "the hole is what the gateway notices"
    assert registry.get_sample_value("tocsin_publish_failures_total") == 2


def reaches(publisher: Publisher) -> bool:
    answers: list[bool] = []

    async def ask() -> None:
        answers.append(await publisher.reaches())

    drive(ask())
    return answers[0]


def test_whether_redis_takes_messages_is_asked_anew_only_if_it_refused_the_last_one(
    publisher: Publisher, redis: Redis
) -> None:
    redis.listening = {"g1": []}
    assert reaches(publisher)
    assert not redis.listening["g1"]
    redis.away = True
    drive(publisher.publish({"g1": [part()]}))
    assert not reaches(publisher)
    redis.away = False
    assert reaches(publisher)
    assert [type(message) for message in arrived(redis, "g1")] == [Beat]


def test_a_beat_that_redis_did_not_take_is_tried_again_soon(publisher: Publisher, redis: Redis, clock: Clock) -> None:
    redis.away = True
    drive(publisher.beat())
    assert publisher._rhythm.due() <= clock.now + BEAT_SOON


def test_a_long_message_is_cut_between_parts(publisher: Publisher, redis: Redis) -> None:
    redis.listening = {"g1": []}
    parts = [part(number, size=MESSAGE_BYTES // 3) for number in range(7)]
    drive(publisher.publish({"g1": parts}))
    sizes = [len(data) for data in redis.listening["g1"]]
    messages = arrived(redis, "g1")
    assert max(sizes) < MESSAGE_BYTES * 1.1
    assert numbers(messages) == [1, 2, 3, 4]
    assert [p.partition for m in messages if isinstance(m, Heard) for p in m.parts] == list(range(7))


def test_a_part_that_is_too_long_by_itself_is_sent_alone(publisher: Publisher, redis: Redis) -> None:
    redis.listening = {"g1": []}
    answers = [Answer("s", "inbox/normal", 0, 1, [Run("inbox/normal", 1, 1, 1, b"x" * MESSAGE_BYTES)])]
    drive(publisher.publish({"g1": [part(0), Part(1, 1, answers=answers), part(2)]}))
    assert numbers(arrived(redis, "g1")) == [1, 2, 3]


def test_a_beat_names_the_epochs_and_the_last_numbers(publisher: Publisher, redis: Redis) -> None:
    redis.listening = {"g1": [], "g2": []}
    publisher.own({0: 7})
    drive(publisher.publish({"g1": [part()]}))
    drive(publisher.beat())
    assert arrived(redis, "g2") == [Beat("w1", {0: 7}, {"g1": 1})]


def looked_after(publisher: Publisher, clock: Clock, seconds: float) -> set[str]:
    clock.now += seconds
    drive(publisher._look_after_suspects())
    return publisher.dead


def test_a_gateway_that_nobody_reaches_and_whose_lease_is_gone_is_dead_after_a_while(
    publisher: Publisher, clock: Clock
) -> None:
    drive(publisher.publish({"g1": [part()]}))
    assert looked_after(publisher, clock, LEASE_GONE - 1) == set()
    assert looked_after(publisher, clock, 2) == {"g1"}
    drive(publisher.beat())
    assert not publisher._numbers, "a beat does not name the dead for ever"


def test_a_gateway_with_a_lease_is_not_dead(publisher: Publisher, redis: Redis, clock: Clock) -> None:
    redis.leases.add("g1")
    drive(publisher.publish({"g1": [part()]}))
    assert looked_after(publisher, clock, LEASE_GONE + 1) == set()
    redis.leases.clear()
    drive(publisher.publish({"g1": [part()]}))
    assert looked_after(publisher, clock, 1) == set(), "its time begins anew"


def test_a_gateway_that_is_reached_again_is_not_suspect(publisher: Publisher, redis: Redis, clock: Clock) -> None:
    drive(publisher.publish({"g1": [part()]}))
    redis.listening = {"g1": []}
    drive(publisher.publish({"g1": [part()]}))
    redis.listening = {}
    assert looked_after(publisher, clock, LEASE_GONE + 1) == set()


def test_a_gateway_that_writes_records_is_not_dead(publisher: Publisher, clock: Clock) -> None:
    drive(publisher.publish({"g1": [part()], "g2": [part()]}))
    publisher.heard_of("g1")
    assert looked_after(publisher, clock, LEASE_GONE + 1) == {"g2"}
    publisher.heard_of("g2")
    assert publisher.dead == set()


def test_while_redis_is_away_nobody_dies(publisher: Publisher, redis: Redis, clock: Clock) -> None:
    drive(publisher.publish({"g1": [part()]}))
    redis.away = True
    assert looked_after(publisher, clock, LEASE_GONE + 1) == set()


class ClosedUnder(Redis):
    """A client whose connection has just been closed by Redis, as `links.redis.guard` lets it fail."""

    def pipeline(self, *, transaction: bool) -> Any:
        raise ClosedError("the connection was closed")

    async def publish(self, channel: str, data: bytes) -> int:
        raise ClosedError("the connection was closed")


def test_a_connection_that_is_closed_while_it_is_written_to_loses_a_message_and_no_more(
    clock: Clock, publisher: Publisher, registry: CollectorRegistry
) -> None:
    publisher._redis = ClosedUnder()
    drive(publisher.publish({"g": [Part(partition=0, epoch=1)]}))
    drive(publisher.beat())
    assert registry.get_sample_value("tocsin_publish_failures_total") == 2


class Picky(Redis):
    """Redis that answers each publish of a pipeline by itself, as it does."""

    def __init__(self, *answers: object) -> None:
        super().__init__()
        self._answers = list(answers)

    def pipeline(self, *, transaction: bool) -> Any:
        return self

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def publish(self, channel: str, data: bytes) -> Any:
        return None

    async def execute(self, *, raise_on_error: bool) -> list[object]:
        assert not raise_on_error
        return self._answers


def test_a_message_that_redis_refuses_takes_no_other_with_it(publisher: Publisher, registry: CollectorRegistry) -> None:
    publisher._redis = Picky(ResponseError("too large"), 1)
    drive(publisher.publish({"a": [Part(partition=0, epoch=1)], "b": [Part(partition=0, epoch=1)]}))
    assert registry.get_sample_value("tocsin_publish_failures_total") == 1
    assert publisher._link is module.Link.TAKES


class Broken(Redis):
    """A client with a fault of ours in it."""

    def pipeline(self, *, transaction: bool) -> Any:
        raise RuntimeError("ours")


def test_a_fault_of_ours_is_no_redis_that_is_lost(publisher: Publisher) -> None:
    publisher._redis = Broken()
    with pytest.raises(RuntimeError, match="ours"):
        drive(publisher.publish({"a": [Part(partition=0, epoch=1)]}))
