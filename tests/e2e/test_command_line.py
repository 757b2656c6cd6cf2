"""The commands that try it from a shell, against a deployment that runs from the same folder."""

import json
import os
import signal
import time

import pytest

from tests.system import System, stop
from tests.terminal import Listener


def test_what_is_sent_is_shown_with_its_latency(embedded_system: System) -> None:
    with Listener(embedded_system, "cli-1") as listener:
        listener.connected()
        sent = embedded_system.tocsin("send", "cli-1", "hello", "--title", "T", "--data", '{"a": 1}', "--json")
        assert sent.returncode == 0, sent.stderr
        (entry,) = listener.wait(1)
    assert (entry["title"], entry["body"], entry["data"]) == ("T", "hello", {"a": 1})
    assert entry["id"] == json.loads(sent.stdout)["id"]
    assert 0 <= entry["latency_ms"] < 5_000


def test_the_same_key_is_shown_once(embedded_system: System) -> None:
    with Listener(embedded_system, "cli-2") as listener:
        listener.connected()
        for key in ("a", "a", "b"):
            assert embedded_system.tocsin("send", "cli-2", "hello", "--key", key).returncode == 0
        assert [entry["id"] for entry in listener.wait(2)] == ["a", "b"]


def test_lanes_are_logs_of_their_own(embedded_system: System) -> None:
    with Listener(embedded_system, "cli-3") as listener:
        listener.connected()
        for lane in ("critical", "normal", "bulk"):
            assert embedded_system.tocsin("send", "cli-3", lane, "--lane", lane).returncode == 0
        shown = listener.wait(3)
    assert {(entry["log"], entry["seq"]) for entry in shown} == {
        ("inbox/critical", 1), ("inbox/normal", 1), ("inbox/bulk", 1),
    }  # fmt: skip


def test_a_device_goes_on_where_its_cursor_file_says(embedded_system: System) -> None:
    options = ("--device", "phone", "--cursor-file", "cli-phone.json")
    embedded_system.tocsin("send", "cli-4", "hello", "--count", "3", "--key", "first")
    with Listener(embedded_system, "cli-4", *options) as listener:
        assert [entry["id"] for entry in listener.wait(3)] == ["first-1", "first-2", "first-3"]
        # It is shown first and noted then: what ends between the two is shown again rather than lost.
        deadline = time.monotonic() + 10
        while '"inbox/normal":3' not in (embedded_system.folder / "cli-phone.json").read_text().replace(" ", ""):
            assert time.monotonic() < deadline, "the cursor was not noted"
            time.sleep(0.02)
    embedded_system.tocsin("send", "cli-4", "hello", "--count", "2", "--key", "second")
    with Listener(embedded_system, "cli-4", *options) as listener:
        assert [entry["id"] for entry in listener.wait(2)] == ["second-1", "second-2"]


def test_a_token_from_the_command_line_opens_a_session(embedded_system: System) -> None:
    token = embedded_system.tocsin("token", "cli-5", "--device", "d").stdout.strip()
    embedded_system.tocsin("send", "cli-5", "hello")
    with Listener(embedded_system, "cli-5", "--token", token) as listener:
        assert listener.wait(1)[0]["body"] == "hello"


def test_a_notification_for_one_device_is_shown_there_only(embedded_system: System) -> None:
    with (
        Listener(embedded_system, "cli-6", "--device", "phone") as phone,
        Listener(embedded_system, "cli-6", "--device", "desk") as desk,
    ):
        phone.connected()
        desk.connected()
        embedded_system.tocsin("send", "cli-6", "for the desk", "--device", "desk")
        embedded_system.tocsin("send", "cli-6", "for both")
        assert [entry["body"] for entry in desk.wait(2)] == ["for the desk", "for both"]
        assert [entry["body"] for entry in phone.wait(1)] == ["for both"]


@pytest.mark.parametrize("part", ["topics", "store"])
def test_plans_find_nothing_to_do(embedded_system: System, part: str) -> None:
    ended = embedded_system.tocsin(part, "plan")
    assert (ended.returncode, ended.stdout[:6]) == (0, "equal:"), ended.stdout + ended.stderr


def test_thousands_are_sent_in_one_go(embedded_system: System) -> None:
    sent = embedded_system.tocsin("send", "cli-7", "x", "--count", "2000")
    assert sent.returncode == 0
    offsets = [int(line.rpartition(" ")[2]) for line in sent.stdout.splitlines()]
    assert offsets == list(range(offsets[0], offsets[0] + 2000))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_listener_ends_quietly(embedded_system: System, number: signal.Signals) -> None:
    process = embedded_system.spawn("listen", "cli-8")
    try:
        assert process.stderr
        assert process.stderr.readline().startswith("connected")
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    finally:
        stop(process)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in errors


def test_a_worker_that_is_killed_goes_on_with_the_embedded_servers_too(embedded_system: System) -> None:
    """The embedded Kafka says of ends less than there is, which must not look like a topic that was made again."""
    embedded_system.tocsin("send", "cli-9", "a batch", "--count", "300")
    name = "worker-inbox"
    before = embedded_system.pids()[name]
    os.kill(before, signal.SIGKILL)
    with embedded_system.spawn("listen", "cli-9", "--json") as listener:
        try:
            assert listener.stdout
            lines = [listener.stdout.readline() for _ in range(300)]
            embedded_system.tocsin("send", "cli-9", "one more")
            lines.append(listener.stdout.readline())
        finally:
            stop(listener)
    assert "one more" in lines[-1]
    after = embedded_system.pids()[name]
    assert after != before
    assert embedded_system.tocsin("doctor").returncode == 0
    assert embedded_system.pids()[name] == after
