"""From unit costs to machines: every figure comes from a row, and the fullest resource decides."""

import json
from pathlib import Path

import pytest

from bench.capacity import FULL, Load, Machine, machines, main, needs, processes, units

TIER = {
    "target": "Tocsin, gateway", "load": "5000 messages/s to one each",
    "deliveries": 1_000, "cpu": 0.03, "redis": 0.005, "bytes": 300_000,
}  # fmt: skip
POPULATION = {
    "target": "Tocsin, gateway", "connections": 100_000, "joins_cpu": 200e-6,
    "pss": 5_000, "kernel": 10_000, "idle": 0.1,
}  # fmt: skip
INBOX = {
    "store": "cassandra", "rate": 20_000.0, "records": 1_000, "cpu": 0.1,
    "others": {"cassandra": 0.2, "kafka": 0.05, "redis": 0.01},
}  # fmt: skip
ROWS = {"store": "cassandra", "disk": 200.0}
FIGURES = {
    "rows": [ROWS, ROWS | {"store": "sqlite", "disk": 900.0}],
    "tier": [TIER, TIER | {"cpu": 0.02}, TIER | {"cpu": 0.5}, TIER | {"target": "centrifuge", "cpu": 9.0}],
    "population": [POPULATION, POPULATION | {"connections": 1_000, "pss": 1}],
    "inbox": [INBOX, INBOX | {"rate": 200.0, "cpu": 5.0}, INBOX | {"store": "sqlite", "cpu": 7.0}],
}


def test_a_unit_cost_is_the_median_of_the_rows_that_are_meant() -> None:
    costs = units(FIGURES)
    assert costs.delivery.cost == pytest.approx(30e-6)
    assert costs.connection.cost == 10_000
    assert costs.idle.cost == pytest.approx(1e-6)
    assert costs.record.cost == pytest.approx(100e-6)
    assert "20,000 records/s" in costs.record.source


def test_the_fullest_resource_says_how_many_machines_a_part_takes() -> None:
    load = Load(connections=10_000_000, joins=1_000, deliveries=1_000_000, records=10_000, kept=1e9)
    found = needs(units(FIGURES), load, Machine(cores=10, memory=10e9, network=1e9, disk=1e12))
    by = {(need.part, need.resource): need for need in found}
    assert by["gateways", "cores"].amount == pytest.approx(1_000_000 * 30e-6 + 1_000 * 200e-6 + 10)
    assert by["gateways", "memory"].machines == pytest.approx(10_000_000 * 10_000 / (10e9 * FULL))
    assert by["Cassandra", "cores"].amount == pytest.approx(3 * 10_000 * 200e-6)
    assert by["Cassandra", "disk"].machines == pytest.approx(1e9 * 200 * 3 / (1e12 * FULL))
    assert machines(found)["gateways"] == (17, "memory")
    assert machines(found)["workers"] == (1, "cores")


def test_what_uses_one_core_takes_so_many_processes() -> None:
    found = needs(units(FIGURES), Load(connections=0, joins=0, deliveries=1_000_000, records=10_000), Machine())
    assert processes(found) == {
        "gateways": 50,  # 30 µs a delivery
        "workers, and partitions at the least": 2,  # 100 µs a record
        "Redis servers": 9,  # 5 µs a delivery
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(None, "cannot be read: No such file", id="no file"),
        pytest.param("no JSON", "is no file of figures", id="no figures"),
        pytest.param({"figures": {"tier": [TIER]}}, "lacks 'population'", id="a glance"),
        pytest.param({"figures": FIGURES | {"tier": []}}, "no row of tier", id="a benchmark that failed"),
    ],
)
def test_figures_that_say_too_little_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, why: str
) -> None:
    file = tmp_path / "figures.json"
    if content is not None:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    assert main([str(file)]) == 1
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


def test_a_table_names_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    file.write_text(json.dumps({"figures": FIGURES}))
    assert main([str(file), "--connections", "1000000"]) == 0
    out = capsys.readouterr().out
    assert "population, 100,000 connections" in out
    assert "1,000,000 connections" in out
