"""The supervision of real processes, in this process."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from schemas.errors import ServerFailed
from stack import deployment
from stack.child import Child
from stack.deployment import Deployment
from stack.program import Program
from stack.servers import Server, Valkey


class Watched:
    """A deployment, what it said and how often it changed."""

    def __init__(self, servers: list[Server], steps: list[Child], programs: list[Program]) -> None:
        self.said: list[str] = []
        self.came: list[str] = []
        self.changes = 0
        self.deployment = Deployment(
            servers,
            steps,
            [programs],
            say=self.said.append,
            came=lambda name, _: self.came.append(name),
            changed=self._change,
        )

    def _change(self) -> None:
        self.changes += 1


@contextlib.asynccontextmanager
async def running(watched: Watched) -> AsyncIterator[None]:
    work = asyncio.create_task(watched.deployment.run())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await watched.deployment.stop()


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.02)


def program(tmp_path: Path, *command: str, port: int = 1) -> Program:
    return Program("some", command, environment=os.environ, metrics_port=port, log=tmp_path / "log", stop_within=5)


async def test_a_server_whose_port_was_taken_meanwhile_comes_back_when_it_is_free(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    watched = Watched([server], [], [])
    async with running(watched):
        await until(lambda: watched.changes == 1)
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: not server.running)
        with socket.create_server(("127.0.0.1", server.port)):
            await until(lambda: any("is taken by another process; the next attempt" in line for line in watched.said))
        await until(lambda: watched.changes == 2)
        assert watched.said[-1] == f"valkey is back (pid {server.pid})"


async def test_a_server_that_is_stuck_after_its_restart_is_killed_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Valkey(tmp_path)
    watched = Watched([server], [], [])
    async with running(watched):
        await until(lambda: watched.changes == 1)
        with monkeypatch.context() as patched:
            patched.setattr(Valkey, "_answers", lambda self: False)
            patched.setattr(Valkey, "start_within", 0.0)
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: len(watched.said) == 2)
        await until(lambda: watched.changes == 2)


async def test_a_program_that_never_gets_ready_ends_the_start_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "_READY_WITHIN", 0.3)
    watched = Watched([], [], [program(tmp_path, "/bin/sleep", "60")])
    with pytest.raises(ServerFailed, match=r"some was not ready within 0 s: no answer on its metrics port .* \(log: "):
        await watched.deployment.run()
    await watched.deployment.stop()


async def test_the_reason_that_a_program_gives_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setattr(deployment, "_READY_WITHIN", 2)
    server = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b"no partitions yet")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
    some = program(tmp_path, sys.executable, "-c", server, str(free_port), port=free_port)
    watched = Watched([], [], [some])
    with pytest.raises(ServerFailed, match="some was not ready within 2 s: no partitions yet"):
        await watched.deployment.run()
    await watched.deployment.stop()
    with pytest.raises(ServerFailed, match="some was ended by SIGTERM"):
        some.ready()


async def test_a_step_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "_STEP_WITHIN", 0.2)
    step = Child("step", ["/bin/sleep", "60"], log=tmp_path / "log")
    watched = Watched([], [step], [])
    with pytest.raises(ServerFailed, match="step took more than 0 s"):
        await watched.deployment.run()
    await watched.deployment.stop()
    assert not step.running
