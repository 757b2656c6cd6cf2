"""A client in another language, on a library that nobody here wrote: npm's `ws`."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.system import System

SOURCES = Path(__file__).parent / "ws"

Node = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Run the client until it ends and return the frames that it printed."""
    folder = tmp_path_factory.mktemp("ws")
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=120)

    def run(url: str, count: int, cursors: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        arguments = [url, str(count), *([json.dumps(cursors)] if cursors else [])]
        ended = subprocess.run(
            ["node", "client.mjs", *arguments], cwd=folder, capture_output=True, text=True, timeout=40, check=True,
            env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return run


def url(system: System, user: str, device: str) -> str:
    return f"{system.url}?{urlencode({'token': system.token(user, device), 'hello': 1})}"


def notifications(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame for frame in frames if frame["type"] == "notification"]


def test_it_gets_what_waited_for_it_in_order_and_goes_on_after_its_acknowledgements(system: System, node: Node) -> None:
    assert system.tocsin("send", "node-1", "hello", "--count", "5", "--key", "first").returncode == 0
    frames = node(url(system, "node-1", "n"), 5)
    assert frames[0]["type"] == "welcome"
    assert frames[0]["user"] == "node-1"
    assert {"type": "pong"} in frames
    assert [frame["id"] for frame in notifications(frames)] == [f"first-{n}" for n in range(1, 6)]
    assert [frame["seq"] for frame in notifications(frames)] == [1, 2, 3, 4, 5]

    assert system.tocsin("send", "node-1", "more", "--count", "2", "--key", "second").returncode == 0
    again = node(url(system, "node-1", "n"), 2)
    assert [frame["id"] for frame in notifications(again)] == ["second-1", "second-2"]


def test_it_resumes_from_its_own_cursors(system: System, node: Node) -> None:
    assert system.tocsin("send", "node-2", "hello", "--count", "4", "--key", "k").returncode == 0
    epoch = node(url(system, "node-2", "n"), 4)[0]["epoch"]
    frames = node(url(system, "node-2", "other"), 2, {"epoch": epoch, "cursors": {"inbox/normal": 2}})
    assert [frame["seq"] for frame in notifications(frames)] == [3, 4]


def test_it_sees_the_text_as_it_was_written(system: System, node: Node) -> None:
    text = "Grüße, 世界 👋"
    assert system.tocsin("send", "node-3", text, "--data", '{"n": [1, null]}', "--kind", "k").returncode == 0
    (frame,) = notifications(node(url(system, "node-3", "n"), 1))
    assert (frame["body"], frame["data"], frame["kind"]) == (text, {"n": [1, None]}, "k")


def test_a_bad_token_ends_the_connection_with_the_reason(system: System, node: Node) -> None:
    refused = {"type": "closed", "code": 4101, "reason": "the token is malformed"}
    assert node(f"{system.url}?token=nonsense&hello=1", 1) == [refused]
