"""What `welcome` says is unread, through the real rule, worker and gateway: what has expired by then does not count."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.delivery.device import Device
from tests.unit.delivery.stories import begun
from tests.unit.delivery.world import World

LOG = "inbox/normal"


class Hearing(Device):
    """Remembers what `welcome` said."""

    def receive(self, data: bytes) -> None:
        frame = json.loads(data)
        if frame["type"] == "welcome":
            self.unread = frame["unread"][LOG]
        super().receive(data)


@pytest.fixture
def world() -> Iterator[World]:
    world = begun()
    yield world
    world.close()


def produce(world: World, *lives: float | None, **more: Any) -> None:
    """Send entries to ann that live for so many s, or for ever."""
    for life in lives:
        expires = life and datetime.fromtimestamp(world.clock.now + life, UTC).isoformat()
        fields: dict[str, Any] = {"expires_at": expires} if expires else {}
        world.produce("ann", **more, **fields)
    world.flow()


def unread(world: World) -> int:
    """Return what a device is told that comes now."""
    device = Hearing("ann", "tablet", world.acked)
    world.connect(device, world.gateways[0])
    for _ in range(3):
        world.flow()
    return int(device.unread)


def read(world: World, seq: int) -> None:
    wire = world.devices[0].wire
    assert wire is not None
    wire.say(type="read", log=LOG, seq=seq)
    world.flow()


def test_what_has_expired_is_not_unread(world: World) -> None:
    produce(world, None, 10, 20, None)
    assert unread(world) == 4
    world.pass_time(11)
    assert unread(world) == 3
    world.pass_time(10)
    assert unread(world) == 2


def test_what_was_read_before_it_expired_is_not_taken_away_twice(world: World) -> None:
    produce(world, 10, None, 20, 10)
    read(world, 1)
    assert unread(world) == 3
    world.pass_time(11)
    assert unread(world) == 2


def test_entries_for_one_device_do_not_count_whether_they_expire_or_not(world: World) -> None:
    produce(world, 10, 100, None)
    produce(world, 10, 100, None, device="web")
    world.pass_time(11)
    assert unread(world) == 2


def test_a_worker_that_reads_the_head_from_the_store_says_the_same(world: World) -> None:
    produce(world, None, 10, 100)
    world.take_over("crash")
    world.pass_time(11)
    assert unread(world) == 2


def test_a_repeat_after_it_has_expired_has_no_status(world: World) -> None:
    expires = datetime.fromtimestamp(world.clock.now + 10, UTC).isoformat()
    for _ in range(2):
        world.produce("ann", id="a", title="same0000", expires_at=expires)
        world.flow()
        world.pass_time(11)
    assert world.said("expired") == set()
