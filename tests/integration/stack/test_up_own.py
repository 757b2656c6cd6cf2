"""`up` on servers that run already, real ones, with fakes for our own parts."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stack.ports import LOOPBACK
from stack.servers import Cassandra, Kafka, Redis, Tansu, Valkey
from stack.servers import redis as redis_module
from tests.integration.stack.conftest import Up, gone, until


def told(up: Up, part: str = "worker-inbox") -> dict[str, str]:
    """Return the settings that a part was started with."""
    settings: dict[str, str] = json.loads((up.folder / f"told-{part}").read_text())
    return settings


def test_a_kafka_of_ones_own_is_all_that_has_to_be_named(up: Up, kafka: Kafka) -> None:
    up.start(None, kafka=kafka.address, data=None)
    ready = up.ready()
    assert ready["kafka"] == kafka.address
    assert ready["store"] == f"sqlite:///{up.folder}/.tocsin/tocsin.db"  # it lasts, as that Kafka does
    assert set(ready["pids"]) == {"redis", "worker-inbox", "gateway-0", "gateway-1"}
    assert f"kafka        ready on {kafka.address} (yours, " in "\n".join(up.printed())
    assert "Tocsin is up (kafka yours, redis embedded, store embedded)." in up.printed()
    assert told(up)["TOCSIN_IDEMPOTENCE"] == "true"
    assert "TOCSIN_SESSION_TIMEOUT" not in told(up)
    assert up.end() == 0
    assert kafka.running


def test_servers_of_the_settings_are_used_and_not_started(up: Up, kafka: Kafka, redis_server: Redis) -> None:
    chosen = up.folder / "chosen"
    settings = {"TOCSIN_KAFKA": kafka.address, "TOCSIN_REDIS": redis_server.url, "TOCSIN_DATA": str(chosen)}
    up.start(None, data=None, settings={**settings, "TOCSIN_SECRET": "s" * 32})
    ready = up.ready()
    assert (ready["kafka"], ready["redis"]) == (kafka.address, redis_server.url)
    assert ready["store"] == f"sqlite:///{chosen}/tocsin.db"
    assert set(ready["pids"]) == {"worker-inbox", "gateway-0", "gateway-1"}
    assert ready["secret_file"] is None
    assert not (chosen / "secret").exists()
    assert "  secret   that of TOCSIN_SECRET" in up.printed()
    assert up.end() == 0


def test_a_kafka_that_gives_no_producer_ids_is_recognised(up: Up, tmp_path: Path) -> None:
    with Tansu(tmp_path / "tansu") as tansu:
        up.start(None, kafka=tansu.address)
        up.ready()
        assert told(up)["TOCSIN_IDEMPOTENCE"] == "false"
        assert f"the Kafka at {tansu.address} gives no producer ids" in up.said()
        assert json.loads((up.folder / ".tocsin" / "up.json").read_text())["idempotence"] is False
        assert up.end() == 0


def test_how_to_get_into_other_servers_is_not_told_about_those_that_are_started(up: Up) -> None:
    settings = {"TOCSIN_KAFKA": "b:1", "TOCSIN_KAFKA_SECURITY": "sasl_ssl", "TOCSIN_KAFKA_USER": "u"}
    (up.folder / "password").write_text("pw")
    settings["TOCSIN_KAFKA_PASSWORD_FILE"] = str(up.folder / "password")
    up.start(None, kafka="embedded", settings=settings)
    ready = up.ready()
    found = told(up)
    assert found["TOCSIN_KAFKA"] == ready["kafka"] != "b:1"
    assert (found["TOCSIN_KAFKA_SECURITY"], found["TOCSIN_KAFKA_USER"]) == ("plaintext", "")
    assert "TOCSIN_KAFKA_PASSWORD_FILE" not in found
    assert up.end() == 0


@contextmanager
def with_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    monkeypatch.setattr(redis_module, "_CONFIGURATION", redis_module._CONFIGURATION + "requirepass secret-word\n")
    monkeypatch.setattr(Valkey, "_answers", lambda self: self._ask(b"PING\r\n", 7) == b"-NOAUTH")
    with Valkey(folder) as server:
        yield server


def test_a_redis_with_a_password_is_used_and_the_password_is_never_shown(
    up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with with_password(tmp_path / "valkey", monkeypatch) as server:
        up.start(redis=f"redis://:secret-word@{server.address}/0", stack=None)
        ready = up.ready()
        assert ready["redis"] == f"redis://:***@{server.address}/0"
        assert f"redis        ready on redis://:***@{server.address}/0 (yours, " in "\n".join(up.printed())
        assert told(up)["TOCSIN_REDIS"] == f"redis://:secret-word@{server.address}/0"
        assert up.end() == 0
    assert "secret-word" not in "".join(up.printed()) + up.said()


@pytest.mark.parametrize("given", [{}, {"TOCSIN_REDIS_PASSWORD": "wrong-word"}], ids=["none", "wrong"])
def test_a_redis_that_refuses_is_one_clear_line(
    up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    with with_password(tmp_path / "valkey", monkeypatch) as server:
        up.start(None, redis=server.address, settings=given)
        assert up.ended() == 1
    assert up.said() == "tocsin: Redis refuses the user or the password (TOCSIN_REDIS, TOCSIN_REDIS_PASSWORD)\n"
    assert up.events() == []


@pytest.mark.parametrize(
    ("part", "url", "shown"),
    [
        ("kafka", "127.0.0.1:{}", "kafka at 127.0.0.1:{}"),
        ("kafka", "[::1]:{}", "kafka at [::1]:{}"),
        ("redis", "redis://:pw@127.0.0.1:{}/0", "redis at redis://:***@127.0.0.1:{}/0"),
        ("store", "cassandra://u:pw@127.0.0.1:{}/tocsin", "the store at cassandra://u:***@127.0.0.1:{}/tocsin"),
    ],
)
def test_a_server_that_is_away_is_waited_for_and_then_one_clear_line(
    up: Up, part: str, url: str, shown: str, free_port: int
) -> None:
    choice: dict[str, Any] = {part: url.format(free_port)}
    up.start(None, **choice)
    name = shown.format(free_port)
    assert up.ended() == 1
    assert up.said().splitlines()[0].startswith(f"tocsin: waiting for {name}, 3 s so far: Connection refused")
    assert up.said().splitlines()[-1] == (f"tocsin: {name} does not answer: Connection refused; does it run there?")
    assert up.events() == []  # nothing was started


def test_a_server_that_comes_late_is_waited_for(up: Up, tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    up.start(None, redis=server.address)
    until(lambda: "waiting for redis" in up.said())
    with server:
        up.ready()
        assert up.end() == 0


@contextmanager
def a_kafka_that_sends_clients_elsewhere(port: int) -> Iterator[str]:
    """As one in a container whose advertised listener is not of this machine."""
    host = b"127.0.0.1"
    versions = struct.pack(">hi", 0, 3) + struct.pack(">hhh", 3, 0, 2) + struct.pack(">hhh", 18, 0, 0)
    versions += struct.pack(">hhh", 22, 0, 0)
    metadata = struct.pack(">iih", 1, 1, len(host)) + host + struct.pack(">ih", port, -1)
    metadata += struct.pack(">h", 1) + b"c" + struct.pack(">ii", 1, 0)
    answers = {18: versions, 3: metadata, 22: struct.pack(">ihqh", 0, 0, 7, 0)}

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while size := stream.read(4):
                request = stream.read(struct.unpack(">i", size)[0])
                api, _, correlation = struct.unpack_from(">hhi", request)
                answer = struct.pack(">i", correlation) + answers[api]
                connection.sendall(struct.pack(">i", len(answer)) + answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    with socket.create_server((LOOPBACK, 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield f"{LOOPBACK}:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def test_a_kafka_whose_advertised_address_does_not_answer_is_told_apart_from_one_that_is_away(
    up: Up, free_port: int
) -> None:
    with a_kafka_that_sends_clients_elsewhere(free_port) as address:
        up.start(None, kafka=address)
        assert up.ended() == 1
    assert f"it sends clients to 127.0.0.1:{free_port} (its advertised.listeners), where nobody answers" in up.said()


def test_the_store_of_one_kafka_is_not_used_with_another(up: Up, kafka: Kafka, tmp_path: Path) -> None:
    data = up.folder / "data"
    with Tansu(tmp_path / "tansu") as other:
        up.start(None, kafka=kafka.address)
        up.ready()
        (data / "tocsin.db").write_text("of the first")
        assert up.end() == 0
        up.start(None, kafka=other.address)
        assert up.ended() == 1
        assert f"the store in {data} is of another Kafka (cluster " in up.said()
        assert "--data" in up.said()
    up.start()  # embedded
    assert up.ended() == 1
    assert "is of another Kafka" in up.said()
    assert (data / "tocsin.db").read_text() == "of the first"


def test_a_cassandra_of_ones_own(up: Up, cassandra: Cassandra) -> None:
    up.start(None, store=cassandra.url, data=None, settings={"TMPDIR": str(up.folder)})
    ready = up.ready()
    assert ready["store"] == cassandra.url
    assert f"store        ready in {cassandra.url} (yours, " in "\n".join(up.printed())
    pids = ready["pids"]
    assert up.end() == 0
    assert all(gone(pid) for pid in pids.values())
    assert cassandra.running
