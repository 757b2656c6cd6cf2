"""What every command of the shell shares: how it reads settings, runs, fails and ends."""

# ruff: noqa: PLC0415 - imported when a command runs, so that --help is quick

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from schemas.errors import TocsinError

if TYPE_CHECKING:
    from streams.settings import Settings


class _Debug:
    on = False


def debug(*, on: bool) -> None:
    """Show where in the code an error came from, and what the clients of servers log."""
    _Debug.on = on


def main(app: Callable[..., Any]) -> NoReturn:
    """Run the command line and end the process: 0 fine, 1 an error, 2 wrong usage or settings, 130 interrupted."""
    try:
        app(prog_name="tocsin")
    except TocsinError as exc:
        _fail(str(exc), exc.exit_code, exc)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as exc:  # noqa: BLE001 - the one place where what nobody foresaw becomes a line
        _fail(f"{type(exc).__name__}: {exc} (`tocsin --debug ...` shows where)", 1, exc)
    sys.exit(0)


def _fail(message: str, code: int, exc: BaseException) -> NoReturn:
    if _Debug.on:
        traceback.print_exception(exc)
    print(f"tocsin: {' '.join(message.split())}", file=sys.stderr)
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
