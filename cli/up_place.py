"""Where `tocsin up` runs: the folder that it has for itself, the data folder, the key of the tokens, signals."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cli.running import UP_FILE
from schemas.errors import ServerFailed
from stack.assembly import Kinds
from stack.data_folder import DataFolder
from stack.lock import Held, hold
from streams.settings import PREFIX, Settings


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what comes before the supervision in good order, as Ctrl-C does."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
            signal.signal(number, stop)
    yield


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Keep a second `up` out of the folder that we run in: other commands find there the one that runs."""
    folder = UP_FILE.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")  # there is a key in it
        lock = hold(folder / "up.lock")
    except Held as exc:
        raise ServerFailed(
            f"another `tocsin up` runs from this folder (pid {exc.pid}); end it with Ctrl-C or `kill {exc.pid}`, "
            "or start this one from another folder"
        ) from None
    except OSError as exc:
        raise ServerFailed(
            f"{folder.absolute()} cannot be written ({exc.strerror}), where `up` says what it runs; "
            "start it from another folder"
        ) from exc
    with lock:
        yield


def data_folder(data: Path | None, kinds: Kinds, settings: Settings) -> DataFolder:
    """Return the data folder: a temporary one where Kafka is started and nobody asked for a place.

    The key of the tokens outlives it, so that a page need not be given a new one each time.
    """
    place = data or Path(settings.data)
    chosen = data or kinds.kafka == "own" or "TOCSIN_DATA" in os.environ or settings.data != Settings().data
    return DataFolder(place if chosen else None, keys=place)


def secret_file(settings: Settings, folder: DataFolder) -> str | None:
    """Return where the key of the tokens lies, None if it is in no file."""
    if settings.secret is None:
        return str(folder.secret_file)
    named = os.environ.get(f"{PREFIX}SECRET_FILE")
    return str(Path(named).absolute()) if named else None
