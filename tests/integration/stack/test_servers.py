"""Servers as children: real ones, each with its own folder and port."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from cassandra.cluster import Cluster
from redis import Redis as Client

from schemas.errors import ServerFailed
from stack.child import Child
from stack.servers import Cassandra, Kafka, Redis, Server, Tansu, Valkey
from stack.servers import redis as redis_module
from tests.integration.stack.conftest import gone, until

LIGHT = [Redis, Valkey, Tansu]


@pytest.mark.parametrize("kind", LIGHT)
def test_a_server_answers_and_ends(kind: type[Server], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        assert server.running
        pid = server.pid
        assert server.address == f"127.0.0.1:{server.port}"
    assert not server.running
    assert gone(pid)


@pytest.mark.parametrize("kind", LIGHT)
def test_servers_listen_on_loopback_only(kind: type[Server], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        for table in ("tcp", "tcp6"):
            rows = [row.split() for row in Path("/proc/net", table).read_text().splitlines()[1:]]
            heard = [row[1] for row in rows if row[1].endswith(f":{server.port:04X}") and row[3] == "0A"]
            assert all(address.startswith("0100007F:") for address in heard)


@pytest.mark.parametrize("kind", [Redis, Valkey, Tansu, Kafka, Cassandra])
def test_a_port_that_is_taken_is_one_clear_line(kind: type[Server], tmp_path: Path, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)), pytest.raises(ServerFailed) as caught:
        kind(tmp_path, free_port).spawn()
    assert str(caught.value) == f"{kind.name} cannot start: port {free_port} is taken by another process"


def test_a_server_that_dies_at_its_start_says_why_and_where_its_log_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "_CONFIGURATION", "nonsense yes\nport {port}\n# {host} {folder}\n")
    server = Redis(tmp_path)
    server.spawn()
    with pytest.raises(ServerFailed, match=r"redis ended with code 1: Bad .* \(log: .*redis\.log\)$") as caught:
        server.wait()
    assert "\n" not in str(caught.value)


def test_a_program_that_does_not_exist_says_so(tmp_path: Path) -> None:
    child = Child("some", [str(tmp_path / "none")], log=tmp_path / "log")
    child.spawn()
    assert child.wait(10)
    assert "none cannot be run: No such file or directory" in child.obituary()


def test_missing_redis_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerFailed, match=r"redis-server is missing: install it \(apt-get install redis-server\)"):
        Redis(tmp_path).spawn()


def test_a_server_that_gives_no_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Valkey, "start_within", 0.3)
    monkeypatch.setattr(Valkey, "_answers", lambda self: False)
    server = Valkey(tmp_path)
    server.spawn()
    with pytest.raises(ServerFailed, match="valkey gave no answer within 0 s"):
        server.wait()
    assert not server.running


def test_a_server_that_was_not_started_says_so(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    server.stop()
    server.kill()
    with pytest.raises(ServerFailed, match="valkey was not started"):
        server.ready()


def test_a_server_is_refused_in_another_thread(tmp_path: Path) -> None:
    caught: list[ServerFailed] = []

    def spawn() -> None:
        try:
            Valkey(tmp_path).spawn()
        except ServerFailed as exc:
            caught.append(exc)

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_a_paused_server_is_silent_and_a_resumed_one_goes_on(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server, Client(port=server.port, socket_timeout=0.3) as client:
        client.set("a", "1")
        server.pause()
        assert server.ready() is False
        server.resume()
        until(server.ready)
        assert client.get("a") == b"1"


def test_a_paused_server_can_be_stopped(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        server.pause()
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < Valkey.stop_within
        assert not server.running


def test_a_child_that_does_not_listen_to_sigterm_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        f"import pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path({str(ready)!r}).touch()"
    )
    child = Child("deaf", [sys.executable, "-c", f"{code}; signal.pause()"], log=tmp_path / "log")
    child.spawn()
    until(ready.exists)
    assert child.stop(0.2) is False
    assert "deaf was ended by SIGKILL" in child.obituary()


def test_a_child_starts_with_the_signals_that_programs_expect(tmp_path: Path) -> None:
    child = Child("some", ["/bin/cat", "/proc/self/status"], log=tmp_path / "log")
    child.spawn()
    assert child.wait(10)
    ignored = next(line for line in child.log.read_text().splitlines() if line.startswith("SigIgn"))
    standard = (1 << 31) - 1  # signals 1 to 31; real-time ones mean nothing to these programs
    assert int(ignored.split()[1], 16) & standard == 0


_PARENT = """
import sys, signal
from pathlib import Path
from stack.servers import Redis, Tansu
servers = [Redis(Path(sys.argv[1]) / "redis"), Tansu(Path(sys.argv[1]) / "tansu")]
for server in servers:
    server.spawn()
for server in servers:
    server.wait()
print(*(server.pid for server in servers), flush=True)
signal.pause()
"""


def test_kill_9_of_the_parent_ends_its_servers(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", _PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in pids), within=5)


def test_a_child_whose_parent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    leash = Path(sys.modules[Child.__module__].__file__ or "").with_name("leash.py")
    mark = tmp_path / "mark"
    command = [sys.executable, "-I", "-S", str(leash), "999999999", "/usr/bin/touch", str(mark)]
    assert subprocess.run(command, check=False).returncode == 1
    assert not mark.exists()


async def test_kafka_keeps_its_records_over_kill_9(tmp_path: Path) -> None:
    with Kafka(tmp_path) as kafka:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.create_topics([NewTopic("t", 1, 1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=kafka.address, acks="all")
        await producer.start()
        for number in range(100):
            await producer.send("t", b"%d" % number)
        await producer.stop()
        kafka.kill()
        assert not kafka.running
        kafka.restart()
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.address)
        await consumer.start()
        consumer.assign([TopicPartition("t", 0)])
        await consumer.seek_to_beginning()
        seen: list[bytes] = []
        while len(seen) < 100:
            for records in (await consumer.getmany(timeout_ms=10_000)).values():
                seen += [record.value for record in records]
        await consumer.stop()
    assert seen == [b"%d" % number for number in range(100)]


def test_cassandra_keeps_what_it_acknowledged_over_kill_9(tmp_path: Path) -> None:
    with Cassandra(tmp_path) as cassandra:
        assert cassandra.url == f"cassandra://{cassandra.address}/tocsin"
        with Cluster(["127.0.0.1"], port=cassandra.port, protocol_version=5) as cluster:
            session = cluster.connect()
            session.execute("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
            session.execute("CREATE TABLE k.t (a int PRIMARY KEY)")
            for number in range(50):
                session.execute("INSERT INTO k.t (a) VALUES (%s)", (number,))
            cassandra.kill()
        cassandra.restart()
        with Cluster(["127.0.0.1"], port=cassandra.port, protocol_version=5) as cluster:
            rows = cluster.connect().execute("SELECT a FROM k.t")
            assert sorted(row.a for row in rows) == list(range(50))
