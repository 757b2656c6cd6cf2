"""Which devices are forgotten, and how seldom all of a user's are looked at."""

from collections.abc import Sequence
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from agents.devices import AT_ONCE, DAY, Devices, outdated
from schemas.logs import INBOX_LOGS
from schemas.rows import Device
from telemetry.worker import WorkerMetrics

USER = "eve"


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 100)),
    st.integers(1, 30),
    st.integers(0, 100),
    st.sets(st.text("abcdef", min_size=1, max_size=3)),
)
def test_the_oldest_go_first_and_those_with_sessions_stay(
    seen: dict[str, int], limit: int, oldest: int, open_: set[str]
) -> None:
    gone = set(outdated(seen, limit=limit, oldest=oldest, open_=open_))
    assert not gone & open_
    stay = seen.keys() - gone
    assert all(seen[device] >= oldest for device in stay - open_)
    assert len(stay) <= max(limit, len(open_ & seen.keys()))
    wrongly = [device for device in gone if seen[device] >= oldest]
    assert len(seen) - len(gone) >= min(limit, len(seen)) or not wrongly
    assert all(seen[device] <= seen[other] for device in wrongly for other in stay - open_)


def test_only_so_many_are_forgotten_at_once() -> None:
    seen = {f"d{number}": number for number in range(100_000)}
    assert outdated(seen, limit=10, oldest=0.0, open_=()) == [f"d{number}" for number in range(AT_ONCE)]


class Store:
    """Devices of one user; it counts how many are read."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        self.read = 0

    async def put_devices(self, devices: Sequence[Device]) -> None:
        self.devices |= {one.device: one for one in devices}

    async def seen_devices(self, user: str, limit: int) -> dict[str, int]:
        assert user == USER
        found = {name: one.seen for name, one in list(self.devices.items())[:limit]}
        self.read += len(found)
        return found

    async def forget_devices(self, user: str, devices: Sequence[str], logs: Sequence[str]) -> None:
        assert (user, logs) == (USER, INBOX_LOGS)
        for device in devices:
            del self.devices[device]


async def test_a_user_who_makes_one_device_after_the_other_has_few_and_costs_little() -> None:
    store = Store()
    devices = Devices(cast("Any", store), WorkerMetrics(CollectorRegistry()), limit=100, days=90.0)
    for number in range(5_000):
        await devices.note([Device(USER, f"d{number}", number, {})], [(USER, {})], float(number))
        assert len(store.devices) <= 105
    assert store.devices.keys() >= {f"d{number}" for number in range(4_900, 5_000)}
    assert store.read < 5_000 * 25


async def test_a_user_who_had_far_too_many_gets_rid_of_them_bit_by_bit() -> None:
    store = Store()
    store.devices = {f"d{number}": Device(USER, f"d{number}", number, {}) for number in range(5_000)}
    devices = Devices(cast("Any", store), WorkerMetrics(CollectorRegistry()), limit=100, days=90.0)
    for number in range(130):
        before = store.read
        await devices.note([Device(USER, f"n{number}", 10_000, {})], [(USER, {})], 10_000.0)
        assert store.read - before <= 211
    assert len(store.devices) <= 210


async def test_a_device_that_was_not_seen_for_long_goes_with_the_next_look() -> None:
    store = Store()
    store.devices = {"old": Device(USER, "old", 0, {}), "phone": Device(USER, "phone", 400_000, {})}
    devices = Devices(cast("Any", store), WorkerMetrics(CollectorRegistry()), limit=100, days=3.0)
    now = 5 * DAY
    await devices.note([Device(USER, "web", int(now), {})], [(USER, {})], now)
    assert store.devices.keys() == {"phone", "web"}
