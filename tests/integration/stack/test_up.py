"""`up` with real embedded servers and with fakes for our own parts."""

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.stack.conftest import Up, gone, until


def test_the_ready_file_says_everything_once_all_is_ready(up: Up) -> None:
    up.start()
    ready = up.ready()
    assert set(ready) == {"kafka", "redis", "store", "gateway", "api", "secret_file", "metrics", "pids"}
    assert ready["api"] is None
    assert ready["gateway"].startswith("ws://127.0.0.1:")
    assert set(ready["metrics"]) == {"worker-inbox", "gateway-0", "gateway-1"}
    assert set(ready["pids"]) == {"kafka", "redis", "worker-inbox", "gateway-0", "gateway-1"}
    assert up.events()[:2] == ["start store apply", "start topics apply"]
    assert up.process is not None
    near = json.loads((up.folder / ".tocsin" / "up.json").read_text())
    assert near == {**ready, "pid": up.process.pid, "prefix": "", "idempotence": False}
    assert Path(ready["secret_file"]).read_text() == (up.folder / "data" / "secret").read_text()
    assert "Tocsin is up (embedded servers)." in up.printed()


def test_a_line_says_of_each_part_that_it_is_ready_where_and_after_how_long(up: Up) -> None:
    up.start(data=None, settings={"TMPDIR": str(up.folder)})
    ready = up.ready()
    lines = up.printed()
    seconds = r"\d+\.\d s\)$"
    first, second = sorted(lines[:2])
    assert re.match(rf"kafka        ready on {ready['kafka']} \(embedded, {seconds}", first)
    assert re.match(rf"redis        ready on {ready['redis']} \(embedded, {seconds}", second)
    assert re.match(rf"store        ready in {up.folder}/tocsin-.*/tocsin.db \(embedded, {seconds}", lines[2])
    assert re.match(rf"topics       ready \({seconds}", lines[3])
    programs = sorted(lines[4:7])
    assert re.match(rf"gateway-0    ready on {ready['gateway']}/ws \({seconds}", programs[0])
    assert re.match(rf"worker-inbox ready \({seconds}", programs[2])
    assert f"  secret   {up.folder}/.tocsin/secret" in lines
    assert any("HS256" in line and '"sub": USER' in line for line in lines)
    assert up.end() == 0
    assert (up.folder / ".tocsin" / "secret").exists()  # so that a token is good after the next start, too
    assert (up.folder / ".tocsin" / ".gitignore").read_text() == "*\n"


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
        up.start(wanted={"port": free_port})
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
    up.start(wanted={"verbose": True})
    up.ready()
    until(lambda: "         tansu | listening on: tcp://127.0.0.1:" in up.said())
    assert up.end() == 0


def test_a_folder_that_nobody_chose_is_removed_at_the_end(up: Up) -> None:
    up.start(data=None, settings={"TMPDIR": str(up.folder)})
    ready = up.ready()
    (made,) = up.folder.glob("tocsin-*")
    assert ready["store"] == f"sqlite:///{made}/tocsin.db"
    assert "(removed at the end)" in (up.folder / "out").read_text()
    assert up.end() == 0
    assert not made.exists()


def test_logs_stay_where_something_went_wrong(up: Up) -> None:
    (up.folder / "broken-store-apply").touch()
    up.start(data=None, settings={"TMPDIR": str(up.folder)})
    assert up.ended() == 1
    (made,) = up.folder.glob("tocsin-*")
    assert "broken for the test" in (made / "logs" / "store-apply.log").read_text()


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({}, "same,loopback"), ({"TOCSIN_ORIGINS": "https://app.example"}, "https://app.example")],
    ids=["none", "own"],
)
def test_pages_of_this_machine_are_let_in_unless_others_are_named(
    up: Up, settings: dict[str, str], wanted: str
) -> None:
    up.start(settings=settings)
    pids = up.ready()["pids"]
    assert environment_of(pids["gateway-0"])["TOCSIN_ORIGINS"] == wanted
    assert up.end() == 0


def test_a_setting_that_lets_nobody_in_stops_it_at_once(up: Up) -> None:
    up.start(settings={"TOCSIN_ORIGINS": "example.com"})
    assert up.ended() == 2
    assert "TOCSIN_ORIGINS: example.com matches no page; an origin has a scheme: write https://" in up.said()
    assert not (up.folder / "events").exists()


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
