"""From unit costs to machines: `python -m bench capacity FIGURES --help`, of the file that `make bench` writes.

Every figure is the median of rows of one benchmark, which the table names. A machine is filled to `FULL` of its cores,
memory and disk, so that the loss of some of many is borne.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from bench.measure import show

FULL: Final = 0.6  # of cores, memory, network and disk
COPIES: Final = 3  # replicas of a row in Cassandra, of a record in Kafka
DAY: Final = 86_400  # s

Rows = Sequence[Mapping[str, Any]]


class Load(msgspec.Struct, frozen=True):
    """What is to be carried at the peak: connections, new ones a second, deliveries and records a second."""

    connections: int = 100_000_000
    joins: float = 100_000_000 / 1_800  # a connection lasts half an hour
    deliveries: float = 6_000_000
    records: float = 5 * 1_000_000_000 / DAY  # a day's notifications, five times as many at the peak
    kept: float = 30 * 1_000_000_000  # entries of thirty days


class Machine(msgspec.Struct, frozen=True):
    """A machine: cores like those that were measured, bytes of memory and disk, bytes a second of network."""

    cores: int = 16
    memory: float = 64 * 1024**3
    network: float = 10e9 / 8
    disk: float = 4e12


class Unit(msgspec.Struct, frozen=True):
    """What one of something costs, and the rows that say so."""

    cost: float
    source: str


class Units(msgspec.Struct, frozen=True):
    """Costs in CPU-seconds and bytes."""

    delivery: Unit  # of a gateway, CPU-s
    delivery_bytes: Unit  # on the client's side of the network
    delivery_redis: Unit  # of Redis, CPU-s
    join: Unit  # of a gateway, CPU-s
    connection: Unit  # of a gateway and its kernel, bytes
    idle: Unit  # of a gateway, cores a connection
    record: Unit  # of a worker, CPU-s
    record_cassandra: Unit  # of Cassandra and one copy, CPU-s
    record_kafka: Unit  # of Kafka and one copy, CPU-s
    row: Unit  # of one copy on Cassandra's disk, bytes


def units(figures: Mapping[str, Rows]) -> Units:
    """Return unit costs. Raises `KeyError` or `ValueError` if the figures lack a benchmark or a row."""
    tier = [row for row in figures["tier"] if row["target"] == "Tocsin, gateway"]
    single = [row for row in tier if row["load"] == "5000 messages/s to one each"]
    held = [row for row in figures["population"] if row["target"] == "Tocsin, gateway"]
    most = max(row["connections"] for row in held)
    held = [row for row in held if row["connections"] == most]
    inbox = [row for row in figures["inbox"] if row["store"] == "cassandra"]
    busiest = max(row["rate"] for row in inbox)
    inbox = [row for row in inbox if row["rate"] == busiest]

    def of(rows: Rows, source: str, value: Any) -> Unit:
        if not rows:
            raise ValueError(f"the figures have no row of {source}")
        return Unit(median(value(row) for row in rows), source)

    one_each = "tier, 5,000 messages/s to one each"
    population, worker = f"population, {most:,} connections", f"inbox, Cassandra, {busiest:,.0f} records/s offered"
    return Units(
        delivery=of(single, one_each, lambda row: row["cpu"] / row["deliveries"]),
        delivery_bytes=of(single, one_each, lambda row: row["bytes"] / row["deliveries"]),
        delivery_redis=of(single, one_each, lambda row: row["redis"] / row["deliveries"]),
        join=of(held, population, lambda row: row["joins_cpu"]),
        connection=of(held, population, lambda row: row["pss"] + row["kernel"] / 2),  # the kernel has both ends here
        idle=of(held, population, lambda row: row["idle"] / row["connections"]),
        record=of(inbox, worker, lambda row: row["cpu"] / row["records"]),
        record_cassandra=of(inbox, worker, lambda row: row["others"]["cassandra"] / row["records"]),
        record_kafka=of(inbox, worker, lambda row: row["others"]["kafka"] / row["records"]),
        row=of([row for row in figures["rows"] if row["store"] == "cassandra"], "rows", lambda row: row["disk"]),
    )


class Need(msgspec.Struct, frozen=True):
    """How much of one resource a part takes, in machines filled to `FULL`."""

    part: str
    resource: str
    amount: float  # cores, bytes or bytes a second
    machines: float
    source: str


def needs(costs: Units, load: Load, machine: Machine) -> list[Need]:
    """Return what every part takes of every resource."""

    def cores(part: str, amount: float, source: str) -> Need:
        return Need(part, "cores", amount, amount / (machine.cores * FULL), source)

    gateway = load.deliveries * costs.delivery.cost + load.joins * costs.join.cost + load.connections * costs.idle.cost
    memory = load.connections * costs.connection.cost
    network = load.deliveries * costs.delivery_bytes.cost
    disk = load.kept * costs.row.cost * COPIES
    return [
        cores("gateways", gateway, f"{costs.delivery.source}; {costs.join.source}"),
        Need("gateways", "memory", memory, memory / (machine.memory * FULL), costs.connection.source),
        Need("gateways", "network", network, network / (machine.network * FULL), costs.delivery_bytes.source),
        cores("workers", load.records * costs.record.cost, costs.record.source),
        cores("Cassandra", load.records * costs.record_cassandra.cost * COPIES, costs.record_cassandra.source),
        Need("Cassandra", "disk", disk, disk / (machine.disk * FULL), costs.row.source),
        cores("Kafka", load.records * costs.record_kafka.cost * COPIES, costs.record_kafka.source),
        cores("Redis", load.deliveries * costs.delivery_redis.cost, costs.delivery_redis.source),
    ]


def machines(found: Sequence[Need]) -> dict[str, tuple[int, str]]:
    """Return how many machines each part takes, and the resource that is full first."""
    worst: dict[str, Need] = {}
    for need in found:
        if need.part not in worst or need.machines > worst[need.part].machines:
            worst[need.part] = need
    return {part: (ceil(need.machines), need.resource) for part, need in worst.items()}


def processes(found: Sequence[Need]) -> dict[str, int]:
    """Return how many processes the parts take that use one core each; a partition has one worker at a time."""
    single = {"gateways": "gateways", "workers": "workers, and partitions at the least", "Redis": "Redis servers"}
    return {
        single[need.part]: ceil(need.amount / FULL)
        for need in found
        if need.part in single and need.resource == "cores"
    }


def _cost(unit: Unit) -> str:
    return f"{unit.cost:,.0f} bytes" if unit.cost > 1 else f"{unit.cost * 1e6:,.2f} µs"


def _amount(need: Need) -> str:
    return f"{need.amount:,.1f}" if need.resource == "cores" else f"{need.amount / 1e9:,.1f} GB"


def _refuse(file: Path, why: str) -> int:
    print(f"{file} {why}; a whole `make bench` writes what is needed", file=sys.stderr)
    return 1


def main(arguments: Sequence[str]) -> int:
    """Print what a load takes; the exit code is 1 if the figures do not say enough."""
    usual = Load()
    parser = argparse.ArgumentParser(prog="python -m bench capacity", description=__doc__)
    parser.add_argument("figures", type=Path, help="such as build/bench/figures.json")
    parser.add_argument("--connections", type=int, default=usual.connections, help="%(default)s")
    parser.add_argument("--deliveries", type=float, default=usual.deliveries, help="a second, at the peak: %(default)s")
    parser.add_argument("--records", type=float, default=usual.records, help="a second, at the peak: %(default).0f")
    parser.add_argument("--joins", type=float, default=usual.joins, help="connections begun a second: %(default).0f")
    parser.add_argument("--kept", type=float, default=usual.kept, help="entries in the store: %(default).0f")
    given = parser.parse_args(arguments)
    load = Load(given.connections, given.joins, given.deliveries, given.records, given.kept)
    try:
        costs = units(msgspec.json.decode(given.figures.read_bytes())["figures"])
    except OSError as exc:
        return _refuse(given.figures, f"cannot be read: {exc.strerror}")
    except msgspec.DecodeError:
        return _refuse(given.figures, "is no file of figures")
    except KeyError as exc:
        return _refuse(given.figures, f"lacks {exc}")
    except ValueError as exc:
        return _refuse(given.figures, f"does not say enough: {exc}")
    found = needs(costs, load, Machine())
    columns = ("unit", "cost", "measured by")
    lines = [
        (name.replace("_", ", "), _cost(unit), unit.source) for name, unit in msgspec.structs.asdict(costs).items()
    ]
    show("What one costs (idle: µs a second)", columns, lines)
    show(
        f"{load.connections:,} connections, {load.deliveries:,.0f} deliveries/s, {load.records:,.0f} records/s",
        ("part", "resource", "in all", f"machines at {FULL:.0%}", "measured by"),
        [(need.part, need.resource, _amount(need), need.machines, need.source) for need in found],
    )
    first = [(part, f"{count:,}", resource) for part, (count, resource) in machines(found).items()]
    show("Machines", ("part", "machines", "full first"), first)
    counts = [(part, f"{count:,}") for part, count in processes(found).items()]
    show(f"Processes of one core each, filled to {FULL:.0%}", ("part", "processes"), counts)
    return 0
