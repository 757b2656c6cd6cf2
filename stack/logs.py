"""Logs of children: the line that says why one ended, and what came since the last look."""

import re
from pathlib import Path
from typing import Final

_LOOK_BACK: Final = 32 * 1024  # bytes at the end of a log in which the reason is looked for
_LONGEST: Final = 300  # characters of a line that are shown
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_WRONG: Final = re.compile(
    r"error|exception|fatal|fail|cannot|denied|in use|caused by|killed|bad |wrong", re.IGNORECASE
)


def last_error(path: Path) -> str:
    """Return the last line of a log that speaks of an error, else its last line; empty if there is none."""
    return error_in(_end(path))


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log, without colours; those that are long are cut."""
    lines = [line.rstrip()[:_LONGEST] for line in _COLOURS.sub("", _end(path)).splitlines() if line.strip()]
    return lines[-count:]


def _end(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOOK_BACK))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def error_in(text: str) -> str:
    """Return the last line of a text that speaks of an error, else its last line; frames of a trace do not count."""
    lines = [line for line in _COLOURS.sub("", text).splitlines() if line.strip() and not line[0].isspace()]
    told = next((line for line in reversed(lines) if _WRONG.search(line)), lines[-1] if lines else "")
    return told.strip()[:_LONGEST]


def set_aside(path: Path) -> None:
    """Keep the log of the run before as `….log.1`, so that a new one starts empty."""
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))


class Tail:
    """Reads whole lines as they are added to a log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes

    def lines(self) -> list[str]:
        """Return the lines that were completed since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace").splitlines()
