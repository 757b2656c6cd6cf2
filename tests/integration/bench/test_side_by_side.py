"""The benchmarks that put processes on cores of their own still work: a glance at each, on real servers."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import broker, chain, herd, inbox, ladder, rows, slow, tier
from stack.child import Child


def finished(tmp_path: Path, *arguments: str, within: float = 120) -> str:
    """Run a benchmark in a process of its own, since it keeps itself to some cores; return what it printed."""
    child = Child("bench", [sys.executable, "-m", "bench", *arguments], log=tmp_path / "log")
    child.spawn()
    try:
        assert child.wait(within)
        assert child.code == 0, child.log.read_text()
    finally:
        child.kill()
    return child.log.read_text()


@pytest.mark.thorough
def test_gateways_beside_the_ceiling(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    # so many clients that the loop in C takes several of the 10 ms in which the kernel counts CPU
    only = ["--only", "tocsin,ceiling", "--clients", "500", "--rounds", "1", "--seconds", "1", "--quick"]
    finished(tmp_path, "tier", *only, "--json", str(out))
    rows = msgspec.json.decode(out.read_bytes(), type=list[tier.Row])
    assert len(rows) == 4
    assert all(row.deliveries and row.cpu > 0 and not row.wrong for row in rows)


@pytest.mark.thorough
def test_the_inbox_role_by_itself(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    little = ["--store", "sqlite", "--rates", "200", "--seconds", "1", "--rounds", "1", "--users", "20"]
    finished(tmp_path, "inbox", *little, "--json", str(out))
    (row,) = msgspec.json.decode(out.read_bytes(), type=list[inbox.Row])
    assert (row.records, row.wrong) == (200, 0)
    assert row.acks > 0


def test_a_target_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tier.main(["--only", "centrifugo"])
    assert "there is no target 'centrifugo'; there are tocsin, tocsin-no-acks, centrifuge" in capsys.readouterr().err


def test_a_broker_alone(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    little = ["--stack", "embedded", "--rate", "200", "--seconds", "2", "--partitions", "2"]
    finished(tmp_path, "broker", *little, "--json", str(out))
    rows = msgspec.json.decode(out.read_bytes(), type=list[broker.Row])
    assert [(row.part, row.records) for row in rows] == [(part, 80) for part in range(1, 6)]
    assert all(0 < row.p50 <= row.p99 for row in rows)


@pytest.mark.thorough
def test_the_chain_from_kafka_to_the_client(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    little = ["--only", "sqlite", "--rates", "100", "--seconds", "1", "--rounds", "1", "--clients", "20"]
    finished(tmp_path, "chain", *little, "--json", str(out))
    (row,) = msgspec.json.decode(out.read_bytes(), type=list[chain.Row])
    assert (row.deliveries, row.wrong) == (100, 0)


@pytest.mark.thorough
def test_a_herd_that_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    finished(tmp_path, "herd", "--only", "gateway", "--clients", "100", "--rounds", "1", "--json", str(out))
    (row,) = msgspec.json.decode(out.read_bytes(), type=list[herd.Row])
    assert (row.clients, row.wrong) == (100, 0)


@pytest.mark.thorough
def test_slow_readers_among_others(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    finished(tmp_path, "slow", "--only", "gateway", "--seconds", "2", "--rounds", "1", "--json", str(out))
    (row,) = msgspec.json.decode(out.read_bytes(), type=list[slow.Row])
    assert row.wrong == 0


@pytest.mark.thorough
def test_many_devices_of_one_user(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    finished(tmp_path, "devices", "--quick", "--stack", "embedded", "--json", str(out))
    rows = msgspec.json.decode(out.read_bytes(), type=list[dict[str, Any]])
    assert [(row["deliveries"], row["wrong"]) for row in rows] == [(10_000, 0), (10_000, 0)]
    assert all(row["own"] > 0 for row in rows)


@pytest.mark.thorough
def test_latency_by_load(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    ladder_to_capacity = 300  # s; the more a machine keeps up with, the more steps
    finished(tmp_path, "ladder", "--quick", "--stack", "embedded", "--json", str(out), within=ladder_to_capacity)
    rows = msgspec.json.decode(out.read_bytes(), type=list[dict[str, Any]])
    assert [row["share"] for row in rows] == list(ladder.SHARES)
    assert all(row["wrong"] == 0 and row["append"]["count"] > 0 for row in rows)


def test_too_few_rows_for_one_user_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rows.main(["--rows", "99"])
    assert "--rows is 99; a user has 100, and there has to be one" in capsys.readouterr().err


@pytest.mark.thorough
def test_what_rows_take_on_disk(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    finished(tmp_path, "rows", "--rows", "5000", "--json", str(out))
    found = {row.store: row for row in msgspec.json.decode(out.read_bytes(), type=list[rows.Row])}
    assert all(100 < found[store].disk < 2_000 for store in ("cassandra", "sqlite"))
    assert found["cassandra"].cpu > 0
