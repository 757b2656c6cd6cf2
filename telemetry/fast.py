"""Metrics for the hot path: plain dictionaries and lists, without locks; they are read when somebody asks.

A value of prometheus-client costs one to two µs to change, which is a tenth of what a delivery costs. These are for
one thread, the one with the event loop.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

LATENCIES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # s


class Count(Collector):
    """A counter: `inc()`."""

    def __init__(self, registry: CollectorRegistry, name: str, help_text: str) -> None:
        self._name, self._help = name, help_text
        self.value = 0
        registry.register(self)

    def inc(self) -> None:
        """Count one."""
        self.value += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the counter as it is now."""
        yield CounterMetricFamily(self._name, self._help, value=self.value)


class Tally(Collector):
    """A counter with one label: `counts[label] += n`."""

    def __init__(
        self, registry: CollectorRegistry, name: str, help_text: str, label: str, known: Sequence[str]
    ) -> None:
        self._name, self._help, self._label = name, help_text, label
        self.counts = dict.fromkeys(known, 0)
        registry.register(self)

    def add(self, label: str, count: int = 1) -> None:
        """Count."""
        self.counts[label] = self.counts.get(label, 0) + count

    def collect(self) -> Iterator[Metric]:
        """Yield the counter as it is now."""
        family = CounterMetricFamily(self._name, self._help, labels=[self._label])
        for label, count in self.counts.items():
            family.add_metric([label], count)
        yield family


class Latencies(Collector):
    """A histogram of seconds."""

    def __init__(
        self, registry: CollectorRegistry, name: str, help_text: str, bounds: Sequence[float] = LATENCIES
    ) -> None:
        self._name, self._help, self._bounds = name, help_text, list(bounds)
        self._buckets = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a value so many times; a clock that stepped back makes no negative ones."""
        seconds = max(seconds, 0.0)
        self._buckets[bisect_left(self._bounds, seconds)] += times
        self._sum += seconds * times

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as it is now."""
        buckets, total = [], 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._buckets, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family = HistogramMetricFamily(self._name, self._help)
        family.add_metric([], buckets, self._sum)
        yield family
