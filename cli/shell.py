"""What every command of the shell shares: how it reads settings, runs, fails and ends."""

# ruff: noqa: PLC0415 - imported when a command runs, so that --help is quick

import asyncio
import io
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from cli.terminal import remark
from schemas.errors import SettingsError, TocsinError
from schemas.text import is_encodable

if TYPE_CHECKING:
    from streams.settings import Settings


class _Debug:
    on = False


def debug(*, on: bool) -> None:
    """Show where in the code an error came from, and what the clients of servers log."""
    _Debug.on = on


def main(app: Callable[..., Any]) -> NoReturn:
    """Run the command line and end the process: 0 fine, 1 an error, 2 wrong usage or settings, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer characters than people use
    try:
        _require_text(sys.argv)
        app(prog_name="tocsin")
    except TocsinError as exc:
        _fail(str(exc), exc.exit_code, exc)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as exc:
        _fail(f"{exc.filename}: {exc.strerror}" if exc.filename and exc.strerror else str(exc), 1, exc)
    except Exception as exc:  # noqa: BLE001 - the one place where what nobody foresaw becomes a line
        _fail(f"a fault of Tocsin itself; please report it with what `tocsin --debug ...` shows: {exc!r}", 1, exc)
    sys.exit(0)


def _require_text(arguments: Sequence[str]) -> None:
    """Raise `SettingsError` for an argument that is not UTF-8: it could neither be sent nor printed."""
    for argument in arguments:
        if not is_encodable(argument):
            raise SettingsError(f"the argument {argument!r} is not text in UTF-8")


def _fail(message: str, code: int, exc: BaseException) -> NoReturn:
    if _Debug.on:
        traceback.print_exception(exc)
    remark(f"tocsin: {' '.join(message.split())}")
    sys.exit(code)


def run(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command's work and end with the exit code that it returns."""
    from cli.kafka import hush

    if not _Debug.on:
        hush()
    raise typer.Exit(asyncio.run(work))


def settings() -> "Settings":
    """Return the settings of this process. Raises `SettingsError`."""
    from streams.settings import read_settings

    return read_settings(os.environ)


def near_settings() -> "Settings":
    """Return the settings for a client of a deployment, which may run from this folder. Raises `SettingsError`."""
    from cli.running import client_settings

    return client_settings(os.environ)
