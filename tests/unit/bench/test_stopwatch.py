"""The stopwatch of the benchmarks measures what began after it did."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from bench.device import Seen
from bench.latency import Stopwatch


def shown(watch: Stopwatch, lane: str, *, ago: float) -> None:
    """Show an entry that was appended so many seconds ago."""
    created = datetime.now(UTC) - timedelta(seconds=ago)
    frame = Seen(type="notification", log=f"inbox/{lane}", created_at=created.isoformat())
    watch(cast("Any", None), frame)


def test_an_entry_that_was_appended_before_is_not_measured_however_late_it_comes() -> None:
    watch = Stopwatch("critical")
    shown(watch, "critical", ago=0)
    watch.begin()
    shown(watch, "critical", ago=180)
    shown(watch, "critical", ago=-0.01)
    shown(watch, "bulk", ago=-0.01)
    assert watch.read().count == 1
    watch.end()
    shown(watch, "critical", ago=-0.01)
    assert watch.read().count == 1
    watch.begin()
    assert watch.read().count == 0
