"""How `up` begins and ends where something is in its way: ports, folders, signals, parts that do not come."""

import json
import os
import pty
import signal
import socket
from functools import partial
from pathlib import Path

import pytest

from tests.integration.stack.conftest import Up, gone, until


def test_a_second_one_from_the_same_folder_is_refused_with_the_pid_of_the_first(up: Up, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Up(tmp_path / "second")
    up.start()
    up.ready()
    assert up.process is not None
    near = (up.folder / ".tocsin" / "up.json").read_text()
    second.start(cwd=up.folder)
    assert second.ended() == 1
    pid = up.process.pid
    assert second.said() == (
        f"tocsin: another `tocsin up` runs from this folder (pid {pid}); end it with Ctrl-C or `kill {pid}`, "
        "or start this one from another folder\n"
    )
    assert (up.folder / ".tocsin" / "up.json").read_text() == near
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    second.start(cwd=up.folder)  # what a killed one left behind is in nobody's way
    second.ready()
    assert second.end() == 0


def test_a_second_one_is_refused_while_the_first_is_still_starting(up: Up, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (up.folder / "deaf-store-apply").touch()
    second = Up(tmp_path / "second")
    up.start()
    until((up.folder / "events").exists)
    second.start(cwd=up.folder)
    assert second.ended() == 1
    assert up.process is not None
    assert f"(pid {up.process.pid})" in second.said()
    up.end()


def test_a_data_folder_in_use_is_refused_with_the_pid_of_its_user(up: Up, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Up(tmp_path / "second")
    up.start()
    up.ready()
    second.start(data=up.folder / "data")
    assert second.ended() == 1
    assert up.process is not None
    data = up.folder / "data"
    assert second.said() == f"tocsin: {data} is in use by another `tocsin up` (pid {up.process.pid})\n"
    assert up.end() == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_signal_during_the_start_ends_it_and_leaves_nothing(up: Up, number: signal.Signals, code: int) -> None:
    (up.folder / "deaf-topics-apply").touch()
    up.start(data=None, settings={"TMPDIR": str(up.folder)})
    until((up.folder / "told-topics-apply").exists)
    assert up.end(number) == code
    assert up.said().endswith("tocsin: stopping; once more kills at once\n")
    assert not list(up.folder.glob("tocsin-*"))
    assert not (up.folder / ".tocsin" / "up.json").exists()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_signal_before_anything_was_started_ends_it_and_leaves_nothing(
    up: Up, number: signal.Signals, code: int, free_port: int
) -> None:
    up.start(None, kafka=f"127.0.0.1:{free_port}", data=None)
    until(lambda: "waiting for kafka" in up.said())
    assert up.end(number) == code
    assert "Traceback" not in up.said()


def test_two_signals_during_the_start_end_it_at_once(up: Up) -> None:
    (up.folder / "deaf-gateway-0").touch()
    up.start()
    until((up.folder / "told-gateway-0").exists)
    assert up.process is not None
    up.process.send_signal(signal.SIGINT)
    assert up.end(signal.SIGINT) == 130


def test_a_closed_terminal_ends_it_and_its_children(up: Up) -> None:
    ours, theirs = pty.openpty()
    up.start(out=theirs)
    os.close(theirs)
    pids = up.ready()["pids"]
    os.close(ours)
    assert up.end(signal.SIGHUP) == 0
    assert all(gone(pid) for pid in pids.values())


def test_it_goes_on_where_nobody_reads_what_it_says(up: Up) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    up.start(out=writer)
    os.close(writer)
    pids = up.ready()["pids"]
    assert not any(gone(pid) for pid in pids.values())
    assert up.end() == 0
    assert "Broken" not in up.said()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=str
)
def test_a_download_says_how_long_it_takes_and_ends_with_up(
    up: Up, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/maven.pid\nexec sleep 600\n")
    maven.chmod(0o755)
    cache = tmp_path / "cache"
    up.start("real", settings={"PATH": f"{maven.parent}:{os.environ['PATH']}", "TOCSIN_CACHE": str(cache)})
    until(lambda: "still fetching kafka, 3 s so far" in up.said())
    assert up.end(number) == code
    pid = int((tmp_path / "maven.pid").read_text())
    until(partial(gone, pid), within=5)
    if number != signal.SIGKILL:
        assert not [path for path in cache.iterdir() if path.is_dir()]
        assert "Traceback" not in up.said()


def test_what_is_waited_for_is_said_after_3_s_with_the_reason(up: Up) -> None:
    (up.folder / "deaf-gateway-1").touch()
    up.start()
    until(lambda: "waiting for gateway-1, 3 s so far: no answer on its metrics port" in up.said())
    assert "waiting for gateway-0" not in up.said()
    up.end()


def test_the_last_words_of_a_part_that_dies_again_and_again_are_shown(up: Up) -> None:
    up.start()
    up.ready()
    (up.folder / "broken-gateway-1").touch()
    os.kill(up.ready()["pids"]["gateway-1"], signal.SIGKILL)
    until(lambda: "starts again in 4.0 s (4 times in a row)" in up.said())
    assert "gateway-1 ended with code 1: error: broken for the test" in up.said()
    assert "tocsin:   gateway-1 | error: broken for the test" in up.said()
    assert not gone(up.ready()["pids"]["gateway-0"])
    (up.folder / "broken-gateway-1").unlink()
    until(lambda: "gateway-1 is back" in up.said())
    assert up.end() == 0


def test_what_parts_write_into_their_logs_does_not_drive_the_terminal(up: Up) -> None:
    up.start(wanted={"verbose": True})
    up.ready()
    with (up.folder / "data" / "logs" / "tansu.log").open("a") as log:
        log.write("a name\x1b]0;owned\x07\n")
    until(lambda: "a name\\x1b]0;owned\\x07" in up.said())
    assert up.end() == 0


def test_kafka_is_where_everybody_looks_for_it_unless_that_is_taken(up: Up) -> None:
    try:
        taken = socket.create_server(("127.0.0.1", 9092))
    except OSError:
        taken = None  # by somebody else, which does as well
    up.start(kafka_port=None)
    kafka = up.ready()["kafka"]
    if taken:
        taken.close()
    assert kafka != "127.0.0.1:9092"
    assert (
        f"port 9092 is taken by another process, so kafka will be on {kafka.split(':')[1]}; --kafka-port" in up.said()
    )
    assert up.end() == 0


def test_a_chosen_port_of_kafka_that_is_taken_is_one_clear_line(up: Up, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        up.start(kafka_port=free_port)
        assert up.ended() == 1
    assert up.said() == (
        f"tocsin: port {free_port} is taken by another process; choose another with --kafka-port, 0: a free one\n"
    )


def test_a_chosen_port_of_kafka_is_used_again_right_after(up: Up, free_port: int) -> None:
    for _ in range(2):
        up.start(kafka_port=free_port)
        ready = up.ready()
        assert ready["kafka"] == f"127.0.0.1:{free_port}"
        with socket.create_connection(("127.0.0.1", free_port)):  # which leaves something behind at the server's end
            up.end(signal.SIGKILL)
            until(partial(gone, ready["pids"]["kafka"]))
        (up.folder / "ready.json").unlink()


def test_what_has_to_be_installed_is_said_at_once_and_nothing_is_started(up: Up, tmp_path: Path) -> None:
    up.start("real", settings={"PATH": str(tmp_path), "JAVA_HOME": "", "TOCSIN_CACHE": str(tmp_path / "none")})
    assert up.ended() == 1
    assert up.said() == (
        "tocsin: Java 17, Maven and redis-server are missing: "
        "apt-get install openjdk-17-jre-headless maven redis-server; "
        "or take embedded servers (--stack embedded), which need none\n"
    )


def test_a_folder_that_cannot_be_written_is_one_clear_line(up: Up) -> None:
    (up.folder / ".tocsin").write_text("a file")
    up.start()
    assert up.ended() == 1
    assert up.said() == (
        f"tocsin: {up.folder}/.tocsin cannot be written (File exists), where `up` says what it runs; "
        "start it from another folder\n"
    )


def test_a_full_disk_is_one_clear_line(up: Up) -> None:
    up.start(wanted={"ready_file": "/dev/full/ready.json"})
    assert up.ended() == 1
    assert up.said().splitlines()[-1].startswith("tocsin: /dev/full")
    assert "Traceback" not in up.said()


def test_a_ready_file_that_cannot_be_written_later_is_said_and_everything_goes_on(up: Up) -> None:
    (up.folder / "place").mkdir()
    up.start(wanted={"ready_file": str(up.folder / "place" / "ready.json")})
    ready = json.loads(until(lambda: (file := up.folder / "place" / "ready.json").exists() and file.read_text()))
    (up.folder / "place" / "ready.json").unlink()
    (up.folder / "place").rmdir()
    (up.folder / "place").write_text("in the way")
    os.kill(ready["pids"]["gateway-0"], signal.SIGKILL)
    until(lambda: "could not be written" in up.said())
    assert not gone(ready["pids"]["worker-inbox"])
    assert up.end() == 0


def test_pages_of_this_machine_may_connect_unless_origins_are_set(up: Up) -> None:
    def origins() -> str:
        up.ready()
        told: dict[str, str] = json.loads((up.folder / "told-gateway-0").read_text())
        assert up.end() == 0
        return told["TOCSIN_ORIGINS"]

    up.start()
    assert origins() == "same,loopback"
    up.start(settings={"TOCSIN_ORIGINS": "https://app.example"})
    assert origins() == "https://app.example"
