"""Figures as drawings: one SVG for each benchmark that stands beside others, with the medians of its rounds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib.figure import Figure

Figures = Sequence[Mapping[str, Any]]  # the rows of a benchmark, as its JSON has them


def grouped(
    rows: Figures, bar: Callable[[Mapping[str, Any]], str], group: Callable[[Mapping[str, Any]], str],
    value: Callable[[Mapping[str, Any]], float],
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Return {bar: {group: median of the values}}, in the order in which they come."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        found.setdefault(bar(row), {}).setdefault(group(row), []).append(value(row))
    return {name: {key: median(values) for key, values in groups.items()} for name, groups in found.items()}


def bars(title: str, values: Mapping[str, Mapping[str, float]]) -> Figure:
    """Return a chart with a group of bars for each inner key and a colour for each outer one."""
    groups = list(dict.fromkeys(group for one in values.values() for group in one))
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(values))
    for number, (name, one) in enumerate(values.items()):
        places = [group + number * width for group in range(len(groups))]
        drawn = axes.bar(places, [one.get(group, 0.0) for group in groups], width, label=name)
        axes.bar_label(drawn, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}", fontsize=8)
    axes.set_title(title)
    axes.set_xticks([group + 0.4 - width / 2 for group in range(len(groups))], groups)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.08), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _sum(row: Mapping[str, Any], *names: str) -> float:
    return float(sum(sum(row[name].values()) for name in names))


def tier(rows: Figures) -> Iterable[tuple[str, Figure]]:
    """Draw gateways beside their peers."""
    target, load = _field("target"), _field("load")
    yield (
        "tier",
        bars(
            "Gateways: deliveries per CPU-second",
            grouped(rows, target, load, lambda row: row["deliveries"] / row["cpu"]),
        ),
    )
    yield "tier-latency", bars("Gateways: p99 from when due, ms", grouped(rows, target, load, lambda row: row["p99"]))
    yield (
        "tier-joins",
        bars(
            "Gateways: what a connection costs",
            {
                name: {**one, **other}
                for (name, one), other in zip(
                    grouped(rows, target, lambda _: "CPU µs a join", lambda row: row["joins_cpu"] * 1e6).items(),
                    grouped(rows, target, lambda _: "KB of memory", lambda row: row["pss"] / 1024).values(),
                    strict=True,
                )
            },
        ),
    )


def chain(rows: Figures) -> Iterable[tuple[str, Figure]]:
    """Draw the whole chain beside its peer."""
    target, rate = _field("target"), _rate
    yield (
        "chain",
        bars(
            "Kafka to client: deliveries per CPU-second of own processes",
            grouped(rows, target, rate, lambda row: row["deliveries"] / _sum(row, "own")),
        ),
    )
    yield (
        "chain-with-servers",
        bars(
            "Kafka to client: deliveries per CPU-second, servers included",
            grouped(rows, target, rate, lambda row: row["deliveries"] / _sum(row, "own", "stores")),
        ),
    )


def inbox(rows: Figures) -> Iterable[tuple[str, Figure]]:
    """Draw the worker alone."""
    yield (
        "inbox",
        bars(
            "Worker: records per CPU-second",
            grouped(rows, _field("store"), _rate, lambda row: row["records"] / row["cpu"]),
        ),
    )


def population(rows: Figures) -> Iterable[tuple[str, Figure]]:
    """Draw idle connections."""
    yield (
        "population",
        bars("KB of memory a connection", grouped(rows, _field("target"), _connections, lambda row: row["pss"] / 1024)),
    )


def _field(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: str(row[name])


def _rate(row: Mapping[str, Any]) -> str:
    return f"{row['rate']:,.0f} records/s"


def _connections(row: Mapping[str, Any]) -> str:
    return f"{row['connections']:,} connections"


DRAWN: Final[Mapping[str, Callable[[Figures], Iterable[tuple[str, Figure]]]]] = {
    "chain": chain,
    "inbox": inbox,
    "population": population,
    "tier": tier,
}


def draw(figures: Mapping[str, Figures], folder: Path) -> list[Path]:
    """Write a drawing for each benchmark that has one; return the files."""
    files = []
    for name, rows in figures.items():
        for title, chart in DRAWN[name](rows) if name in DRAWN else ():
            files.append(folder / f"{title}.svg")
            chart.savefig(files[-1])
    return files
