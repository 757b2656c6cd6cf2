from prometheus_client import CollectorRegistry, generate_latest

from telemetry.fast import Count, Latencies, Tally
from telemetry.gateway import GatewayMetrics
from telemetry.worker import WorkerMetrics


def test_a_tally_counts_by_label() -> None:
    registry = CollectorRegistry()
    tally = Tally(registry, "tocsin_x", "X", "log", ("a",))
    tally.add("b", 3)
    tally.counts["a"] += 2
    assert registry.get_sample_value("tocsin_x_total", {"log": "a"}) == 2
    assert registry.get_sample_value("tocsin_x_total", {"log": "b"}) == 3


def test_latencies_fall_into_cumulative_buckets() -> None:
    registry = CollectorRegistry()
    latencies = Latencies(registry, "tocsin_y_seconds", "Y", (0.1, 1.0))
    for value in (-5.0, 0.1, 0.5, 7.0):
        latencies.observe(value)
    found = [registry.get_sample_value("tocsin_y_seconds_bucket", {"le": le}) for le in ("0.1", "1.0", "+Inf")]
    assert found == [2, 3, 4]
    assert registry.get_sample_value("tocsin_y_seconds_sum") == 7.6
    assert registry.get_sample_value("tocsin_y_seconds_count") == 4


def test_the_metrics_of_each_process_can_be_scraped_and_begin_with_our_name() -> None:
    for kind in (GatewayMetrics, WorkerMetrics):
        registry = CollectorRegistry()
        kind(registry)
        names = [line.split()[2] for line in generate_latest(registry).decode().splitlines() if "# TYPE" in line]
        assert names
        assert all(name.startswith("tocsin_") for name in names)


def test_a_count_is_a_counter_for_prometheus() -> None:
    registry = CollectorRegistry()
    count = Count(registry, "tocsin_x", "X")
    for _ in range(3):
        count.inc()
    assert registry.get_sample_value("tocsin_x_total") == 3
