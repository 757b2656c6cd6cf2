"""Sessions of gateways that were killed leave the table, and nothing that is remembered of them grows."""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from unittest.mock import patch

import pytest
from prometheus_client import CollectorRegistry

from agents import publisher as publisher_module
from agents import sweep as module
from agents.publisher import LEASE_GONE, Publisher
from agents.sweep import Sweep
from schemas.bus import Part
from streams.connections import Place
from streams.turnstile import Turnstile
from tables.connections import ConnectionTable
from telemetry.worker import WorkerMetrics
from tests.unit.delivery.servers import Clock, Redis
from tests.unit.delivery.worker import Owned, drive


class Files:
    """The files of a table; counts how many values a look takes."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, bytes], bytes] = {}
        self.most = 0
        self.on_recovery: Any = None

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.found.get((partition, key))

    def scan(self, partition: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = [(key, value) for (of, key), value in sorted(self.found.items()) if of == partition and key > after]
        self.most = max(self.most, len(found[:limit]))
        return found[:limit]

    async def write(self, _producer: Any, changes: Mapping[int, Sequence[tuple[bytes, bytes | None]]]) -> None:
        for partition, items in changes.items():
            for key, value in items:
                if value is None:
                    self.found.pop((partition, key), None)
                else:
                    self.found[partition, key] = value


class World:
    def __init__(self) -> None:
        self.clock, self.redis, self.files = Clock(), Redis(), Files()
        self.registry = CollectorRegistry()
        metrics = WorkerMetrics(self.registry)
        self.publisher = Publisher("redis://127.0.0.1:1/0", "", "w1", metrics)
        self.publisher._redis = self.redis
        self.table = ConnectionTable.__new__(ConnectionTable)
        self.table._begin(cast("Any", self.files))
        self.owned = Owned({0: 1, 1: 1})
        self.sweep = Sweep(self.table, cast("Any", None), self.publisher, cast("Any", self.owned), Turnstile(), metrics)

    def open(self, gateway: str, users: int, partition: int = 0) -> None:
        sessions = {f"{gateway}-u{number}": {f"{gateway}-{number}": Place(gateway, "d")} for number in range(users)}
        drive(self.table.write(cast("Any", None), {partition: sessions}))

    def live(self, gateway: str) -> None:
        self.redis.listening[gateway] = []
        self.redis.leases.add(gateway)

    def kill(self, gateway: str) -> None:
        self.redis.listening.pop(gateway)
        self.redis.leases.discard(gateway)

    def rounds(self, seconds: float = 3 * LEASE_GONE) -> None:
        """Let time pass in which nobody connects and nothing is published."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            drive(self.publisher.look_after_gateways())
            for _ in range(5):
                drive(self.sweep.look())
            self.clock.now += 1.0

    def gateways(self) -> set[str]:
        looks = [self.table.look(partition, b"", 10**6) for partition in (0, 1)]
        return {place.gateway for look in looks for _, ss in look.sessions for place in ss.values()}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(publisher_module, "time", world.clock)
    return world


def test_sessions_of_a_gateway_that_was_killed_leave_although_nobody_comes_and_nothing_is_sent(world: World) -> None:
    world.live("g1")
    world.live("g2")
    world.open("g1", 300)
    world.open("g2", 300, partition=1)
    world.rounds()
    assert world.gateways() == {"g1", "g2"}
    world.kill("g1")
    world.rounds()
    assert world.gateways() == {"g2"}
    assert world.registry.get_sample_value("tocsin_sessions_swept_total") == 300
    assert all(world.table.get(0, f"g1-u{number}") == {} for number in range(300))
    assert len(world.files.found) == 300


def test_sessions_of_gateways_that_this_worker_never_heard_of_leave_as_well(world: World) -> None:
    world.open("ended long ago", 3)
    world.rounds()
    assert world.files.found == {}


def test_what_is_remembered_of_gateways_is_bounded_by_those_that_live(world: World) -> None:
    world.live("stays")
    world.open("stays", 1)
    for number in range(30):
        gateway = f"g{number}"
        world.live(gateway)
        world.open(gateway, 2)
        world.publisher.heard_of(gateway)
        drive(world.publisher.publish({gateway: [nothing()]}))
        world.kill(gateway)
        world.rounds(10.0)
    world.rounds()
    publisher = world.publisher
    assert publisher._looked.keys() == {"stays"}
    assert not publisher._numbers.keys() - {"stays"}
    assert not publisher._suspects
    assert not publisher.dead
    assert world.gateways() == {"stays"}


def nothing() -> Part:
    return Part(0, 1)


def test_a_look_takes_little(world: World) -> None:
    world.open("g1", 2_000)
    with patch.object(module, "VALUES", 50):
        world.rounds(5.0)
    assert world.files.most == 50


def test_a_round_begins_anew_with_an_assignment(world: World) -> None:
    world.open("g1", 300)
    world.open("g1", 300, partition=1)
    with patch.object(module, "VALUES", 50):
        drive(world.sweep.look())
        world.owned.epochs = {0: 2}
        drive(world.sweep.look())
        assert world.sweep._left == [0]
        world.owned.epochs = {}
        drive(world.sweep.look())
    assert world.sweep._left == []


def test_while_redis_is_away_no_session_leaves(world: World) -> None:
    world.live("g1")
    world.open("g1", 3)
    world.redis.away = True
    world.rounds()
    assert world.gateways() == {"g1"}
