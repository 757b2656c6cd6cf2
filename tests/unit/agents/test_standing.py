"""What stands still in a worker is said once, counted, and shown; so is what Kafka deleted."""

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from agents.standing import RANGES, Standing
from schemas.bus import StandsStill
from telemetry.worker import WorkerMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def standing(registry: CollectorRegistry) -> Standing:
    return Standing("w1", WorkerMetrics(registry))


def message(offset: int) -> Any:
    return SimpleNamespace(tp=TP("t", 2), offset=offset)


def test_a_stall_is_said_once_counted_and_shown(
    standing: Standing, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    stalls = standing.of("normal")
    standing.of("bulk")
    stalls.begin(1, [message(7)])
    stalls.failed(1, "StoreAway: away")
    for _ in range(20):
        assert standing.not_ready() is None or standing.not_ready() == "stands still: t:2@7 (StoreAway: away)"
        standing.look(2.0)
    assert standing.not_ready() is not None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "normal stands still: its record at t:2@7 has been tried for 30 s: StoreAway: away"
    assert registry.get_sample_value("tocsin_lane_stalled", {"agent": "normal"}) == 1
    assert registry.get_sample_value("tocsin_lane_stalled", {"agent": "bulk"}) == 0
    assert registry.get_sample_value("tocsin_lane_stalls_total", {"agent": "normal"}) == 1
    assert standing.lease(4).standing == [StandsStill("t", 2, 7, 40.0, "StoreAway: away")]
    stalls.end(1)
    assert standing.not_ready() is None
    assert registry.get_sample_value("tocsin_lane_stalled", {"agent": "normal"}) == 0


def test_what_was_deleted_is_counted_and_the_last_ranges_are_shown(
    standing: Standing, registry: CollectorRegistry
) -> None:
    for number in range(RANGES + 5):
        standing.deleted(TP("t", 0), 10 * number, 10 * number + 4)
    assert registry.get_sample_value("tocsin_records_deleted_total", {"topic": "t"}) == 5 * (RANGES + 5)
    shown = standing.lease(4).deleted
    assert [(one.first, one.last) for one in shown] == [(10 * n, 10 * n + 4) for n in range(5, RANGES + 5)]
