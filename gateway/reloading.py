"""Files that are read again when they change: certificates and keys of tokens. Bad ones change nothing."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from schemas.errors import SettingsError

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK: Final = 2.0  # s between two looks at the files


class Reload(Generic[T]):
    """Files (or folders) that belong together, and what to do when they have changed."""

    def __init__(self, setting: str, paths: Sequence[str], load: Callable[[], T], take: Callable[[T], None]) -> None:
        """`load` runs beside the event loop and may raise `SettingsError`; `take` gets what it returns, on the loop."""
        self._setting = setting
        self._paths = [Path(path) for path in paths]
        self._load = load
        self._take = take
        self._seen = self._state()

    async def look(self) -> None:
        """Load the files if they have changed since the last look."""
        state = await asyncio.to_thread(self._state)
        if state == self._seen:
            return
        self._seen = state
        try:
            loaded = await asyncio.to_thread(self._load)
        except SettingsError as exc:
            log.warning("files changed, and what they held before stays in force: %s", exc)
        else:
            self._take(loaded)
            log.info("%s: the files were read again", self._setting)

    def _state(self) -> list[object]:
        return [_state_of(file) for path in self._paths for file in (path, *_inside(path))]


def _inside(path: Path) -> Iterable[Path]:
    try:
        return sorted(path.iterdir()) if path.is_dir() else ()
    except OSError:
        return ()


def _state_of(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as exc:
        return str(path), exc.errno
    return str(path), found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


async def follow(reloads: Sequence[Reload[Any]]) -> None:
    """Look at the files until cancelled."""
    while True:
        await asyncio.sleep(LOOK)
        for each in reloads:
            await each.look()


class Certificate:
    """What the gateway's port shows: a context that gives each new connection the newest good certificate.

    `load` returns a whole new context, so that a certificate and the key of another one never meet.
    """

    def __init__(self, load: Callable[[], ssl.SSLContext], files: Sequence[str]) -> None:
        self._load = load
        self.files = tuple(files)
        self._newest = self.context = load()
        self.context.sni_callback = self._choose

    def reload(self) -> Reload[ssl.SSLContext]:
        """Return what keeps it new."""
        return Reload("TOCSIN_TLS_CERT", self.files, self._load, self._take)

    def _take(self, context: ssl.SSLContext) -> None:
        self._newest = context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest
