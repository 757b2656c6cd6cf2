"""`up` with real embedded servers and with fakes for our own parts."""

import json
import os
import signal
import socket

from tests.integration.stack.conftest import Up, gone, until


def test_the_ready_file_says_everything_once_all_is_ready(up: Up) -> None:
    up.start()
    ready = up.ready()
    assert set(ready) == {"kafka", "redis", "store", "gateway", "api", "metrics", "pids"}
    assert ready["api"] is None
    assert ready["gateway"].startswith("ws://127.0.0.1:")
    assert set(ready["metrics"]) == {"worker-inbox", "gateway-0", "gateway-1"}
    assert set(ready["pids"]) == {"kafka", "redis", "worker-inbox", "gateway-0", "gateway-1"}
    assert up.events()[:2] == ["start store apply", "start topics apply"]
    assert up.process is not None
    near = json.loads((up.folder / ".tocsin" / "up.json").read_text())
    own = {"pid": up.process.pid, "prefix": "", "idempotence": False}
    assert near == {**ready, **own, "secret_file": str(up.folder / "data" / "secret")}
    assert "Tocsin is up (embedded servers)." in (up.folder / "out").read_text()


def test_sigterm_ends_gateways_then_workers_then_servers_and_leaves_nothing(up: Up) -> None:
    up.start()
    pids = up.ready()["pids"]
    assert up.end(signal.SIGTERM) == 0
    assert all(gone(pid) for pid in pids.values())
    stops = [event for event in up.events() if event.startswith("stop")]
    assert sorted(stops[:2]) == ["stop gateway-0", "stop gateway-1"]
    assert stops[2:] == ["stop worker-inbox"]
    assert not (up.folder / "ready.json").exists()
    assert not (up.folder / ".tocsin" / "up.json").exists()


def test_kill_9_of_up_leaves_no_child(up: Up) -> None:
    up.start()
    pids = up.ready()["pids"]
    up.end(signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in pids.values()), within=5)


def test_a_worker_that_dies_is_said_and_started_again(up: Up) -> None:
    up.start()
    first = up.ready()["pids"]["worker-inbox"]
    os.kill(first, signal.SIGKILL)
    second = until(lambda: up.ready()["pids"]["worker-inbox"] != first and up.ready()["pids"]["worker-inbox"])
    assert not gone(second)
    until(lambda: f"worker-inbox is back (pid {second})" in up.said())
    assert "worker-inbox was ended by SIGKILL" in up.said()
    assert "it starts again in 0.5 s" in up.said()
    assert up.end() == 0


def test_a_bus_that_dies_comes_back_on_its_port(up: Up) -> None:
    up.start()
    ready = up.ready()
    os.kill(ready["pids"]["redis"], signal.SIGKILL)
    until(lambda: "valkey is back" in up.said())
    host, port = ready["redis"].removeprefix("redis://").removesuffix("/0").split(":")
    socket.create_connection((host, int(port)), 1).close()
    assert up.end() == 0


def test_the_embedded_kafka_cannot_come_back_and_that_is_said(up: Up) -> None:
    up.start()
    os.kill(up.ready()["pids"]["kafka"], signal.SIGKILL)
    assert up.ended() == 1
    assert up.said().splitlines()[-1].startswith("tocsin: tansu was ended by SIGKILL")
    assert "run `up` again" in up.said()


def test_a_step_that_fails_ends_the_start_with_its_last_words(up: Up) -> None:
    (up.folder / "broken-topics-apply").touch()
    up.start()
    assert up.ended() == 1
    assert "topics apply ended with code 1: error: broken for the test (log: " in up.said()
    assert not (up.folder / "ready.json").exists()


def test_a_part_that_dies_again_and_again_ends_the_start(up: Up) -> None:
    (up.folder / "broken-gateway-1").touch()
    up.start()
    assert up.ended() == 1
    assert up.said().splitlines()[-1].startswith("tocsin: gateway-1 ended with code 1: error: broken for the test")
    assert up.events().count("start gateway-1") == 3


def test_a_gateway_port_that_is_taken_is_one_clear_line(up: Up, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        up.start(port=free_port)
        assert up.ended() == 1
    assert up.said().splitlines()[-1:] == [
        f"tocsin: port {free_port} is taken by another process; choose another with --port, 0: a free one"
    ]


def test_what_the_embedded_run_before_derived_is_set_aside(up: Up) -> None:
    data = up.folder / "data"
    data.mkdir()
    (data / "tocsin.db").write_text("old")
    up.start()
    up.ready()
    assert (data / "previous" / "tocsin.db").read_text() == "old"
    assert "are now in" in up.said()
    assert up.end() == 0


def test_a_second_signal_ends_it_at_once(up: Up) -> None:
    up.start()
    pids = up.ready()["pids"]
    os.kill(pids["gateway-0"], signal.SIGSTOP)  # it will not end by itself soon
    assert up.process is not None
    up.process.send_signal(signal.SIGINT)
    until(lambda: "once more kills at once" in up.said())
    assert up.end(signal.SIGINT) == 0
    assert all(gone(pid) for pid in pids.values())


def test_the_logs_of_all_parts_are_shown_where_that_was_asked_for(up: Up) -> None:
    up.start()
    up.ready()
    until(lambda: "         tansu | listening on: tcp://127.0.0.1:" in up.said())
    assert up.end() == 0


def test_a_folder_that_nobody_chose_is_removed_at_the_end(up: Up) -> None:
    up.start(data=False, settings={"TMPDIR": str(up.folder)})
    ready = up.ready()
    (made,) = up.folder.glob("tocsin-*")
    assert ready["store"] == f"sqlite:///{made}/tocsin.db"
    assert "(removed at the end)" in (up.folder / "out").read_text()
    assert up.end() == 0
    assert not made.exists()


def test_logs_stay_where_something_went_wrong(up: Up) -> None:
    (up.folder / "broken-store-apply").touch()
    up.start(data=False, settings={"TMPDIR": str(up.folder)})
    assert up.ended() == 1
    (made,) = up.folder.glob("tocsin-*")
    assert "broken for the test" in (made / "logs" / "store-apply.log").read_text()


def test_without_a_stack_the_servers_are_those_of_the_settings(up: Up) -> None:
    chosen = up.folder / "chosen"
    settings = {"TOCSIN_KAFKA": "k:1", "TOCSIN_REDIS": "redis://r/0", "TOCSIN_DATA": str(chosen)}
    up.start("", data=False, settings={**settings, "TOCSIN_SECRET": "s" * 32})
    ready = up.ready()
    assert (ready["kafka"], ready["redis"], ready["store"]) == ("k:1", "redis://r/0", f"sqlite:///{chosen}/tocsin.db")
    assert set(ready["pids"]) == {"worker-inbox", "gateway-0", "gateway-1"}
    assert json.loads((up.folder / ".tocsin" / "up.json").read_text())["secret_file"] == ""
    assert not (chosen / "secret").exists()
    assert up.end() == 0


def test_the_real_stack_starts_survives_and_ends(up: Up) -> None:
    up.start("real")
    ready = up.ready()
    assert ready["store"].startswith("cassandra://127.0.0.1:")
    os.kill(ready["pids"]["kafka"], signal.SIGKILL)
    until(lambda: "kafka is back" in up.said())
    pids = up.ready()["pids"]
    assert pids["cassandra"] == ready["pids"]["cassandra"]
    assert up.end() == 0
    assert all(gone(pid) for pid in pids.values())
