"""A whole deployment as a child: starts `tocsin up`, waits until it is ready, ends it."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import ServerFailed
from stack.child import Child
from stack.logs import Tail
from streams.settings import PREFIX

READY: Final = 120.0  # s; the first start may download servers
END: Final = 30.0  # s in which `up` ends its children


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The ready file of `tocsin up`, and where its logs lie."""

    kafka: str
    redis: str
    store: str
    gateway: str
    api: str | None = None
    secret_file: str
    metrics: dict[str, str] = {}
    pids: dict[str, int] = {}
    folder: Path = Path()

    def secret(self) -> str:
        """Return the key of the deployment's tokens."""
        return Path(self.secret_file).read_text()


@contextlib.asynccontextmanager
async def deployment(
    *options: str, here: bool = False, show: Callable[[str], None] | None = None
) -> AsyncIterator[Ready]:
    """Run `tocsin up` on free ports in a folder of its own, apart from the settings of the environment.

    `here`: it runs from our own folder, where other commands find it, and no second one may. `show` is given what it
    prints until it is ready.
    The folder is removed at the end, but stays if it does not become ready, for its logs; then raises `ServerFailed`.
    """
    folder = Path(tempfile.mkdtemp(prefix="tocsin-"))
    place = None if here else folder
    child = Child("tocsin up", _command(folder, options), log=folder / "up.log", environment=_environment(), cwd=place)
    child.spawn()
    keep = False
    try:
        yield await _ready(child, folder, show)
    except ServerFailed:
        keep = True
        raise
    finally:
        await asyncio.to_thread(child.stop, END)
        if not keep:
            shutil.rmtree(folder)


def _command(folder: Path, options: Sequence[str]) -> list[str]:
    ports = ["--port", "0", "--api-port", "0", "--kafka-port", "0"]
    files = ["--ready-file", str(folder / "ready.json"), "--data", str(folder / "data")]
    return [sys.executable, "-m", "cli", "up", *ports, *files, *options]


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) or k == f"{PREFIX}CACHE"}


async def _ready(child: Child, folder: Path, show: Callable[[str], None] | None) -> Ready:
    file, end, tail = folder / "ready.json", time.monotonic() + READY, Tail(folder / "up.log")
    while not file.exists():
        if not child.running:
            raise ServerFailed(child.obituary())
        if time.monotonic() > end:
            raise ServerFailed(f"tocsin up was not ready after {READY:.0f} s; {child.obituary()}")
        if show:
            for line in tail.lines():
                show(line)
        await asyncio.sleep(0.05)
    ready = msgspec.json.decode(file.read_bytes(), type=Ready)
    return msgspec.structs.replace(ready, folder=folder / "data")
