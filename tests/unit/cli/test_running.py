"""Finding the deployment that runs from this folder."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.running import client_settings, find_running, secret_of, socket_url
from schemas.errors import SettingsError
from streams.settings import Settings

SECRET = "s" * 32


@pytest.fixture
def up() -> Iterator[int]:
    """The id of a process that looks like `tocsin up`."""
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", "up"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.readline()  # it has become what it is
    yield process.pid
    process.communicate(b"\n")


def write(folder: Path, pid: int, **more: Any) -> Path:
    (folder / "secret").write_text(SECRET + "\n")
    content = {"kafka": "k:1", "redis": "redis://r:2", "store": "sqlite:///s", "gateway": "ws://g:3", "api": None}
    path = folder / "up.json"
    path.write_text(json.dumps({**content, "pid": pid, "secret_file": str(folder / "secret"), **more}))
    return path


def test_a_running_deployment_fills_in_what_is_not_set(tmp_path: Path, up: int) -> None:
    settings = client_settings({}, write(tmp_path, up, prefix="p."))
    assert (settings.kafka, settings.url, settings.secret, settings.prefix) == ("k:1", "ws://g:3", SECRET, "p.")


def test_a_deployment_whose_kafka_gives_no_producer_ids_says_so(tmp_path: Path, up: int) -> None:
    assert not client_settings({}, write(tmp_path, up, idempotence=False)).idempotence
    assert client_settings({}, write(tmp_path, up)).idempotence


def test_what_is_set_wins(tmp_path: Path, up: int) -> None:
    settings = client_settings({"TOCSIN_URL": "ws://other"}, write(tmp_path, up))
    assert (settings.kafka, settings.url) == ("k:1", "ws://other")


def test_with_a_kafka_of_its_own_an_environment_is_left_alone(tmp_path: Path, up: int) -> None:
    assert client_settings({"TOCSIN_KAFKA": "mine:9"}, write(tmp_path, up)) == Settings(kafka="mine:9")


def test_what_a_dead_process_left_is_ignored(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert find_running(write(tmp_path, process.pid)) is None


def test_a_process_that_has_the_number_by_chance_is_not_taken_for_it(tmp_path: Path) -> None:
    assert find_running(write(tmp_path, os.getppid())) is None


@pytest.mark.parametrize("pid", [1, 2**70])
def test_an_impossible_process_is_ignored(tmp_path: Path, pid: int) -> None:
    assert find_running(write(tmp_path, pid)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kafka": 1}'])
def test_a_file_that_is_something_else_is_ignored(tmp_path: Path, text: str) -> None:
    path = tmp_path / "up.json"
    path.write_text(text)
    assert find_running(path) is None


def test_without_a_file_nothing_runs(tmp_path: Path) -> None:
    assert find_running(tmp_path / "up.json") is None


def test_the_secret_is_the_setting_or_the_file_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("f" * 32 + "\n")
    assert secret_of(Settings(data=str(tmp_path))) == "f" * 32
    assert secret_of(Settings(data=str(tmp_path), secret=SECRET)) == SECRET


def test_without_a_secret_it_is_said_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TOCSIN_SECRET is not set"):
        secret_of(Settings(data=str(tmp_path)))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "ws://127.0.0.1:8080/ws"),
        ("host:99", "ws://host:99/ws"),
        ("ws://host:99", "ws://host:99/ws"),
        ("ws://host:99/", "ws://host:99/ws"),
        ("https://host", "wss://host/ws"),
        ("wss://host/socket", "wss://host/socket"),
    ],
)
def test_the_socket_of_a_gateway(url: str, expected: str) -> None:
    assert socket_url(Settings(url=url)) == expected


@pytest.mark.parametrize("url", ["ftp://host", "ws://"])
def test_what_is_no_gateway_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="is not the URL of a gateway"):
        socket_url(Settings(url=url))
