"""What commands print: text that cannot drive a terminal, tables, and JSON.

Names, ids and bodies were written by others. A control character in them would move the cursor, change colours or
reverse what stands beside it. So each is printed as its escape sequence, in the notation of Python and of JSON.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from schemas.text import KEPT, printable


def say(*lines: str) -> None:
    """Print lines to stdout, at once. A line break within one of them is printed as its escape sequence."""
    for line in lines:
        print(printable(line))  # noqa: T201 - the one place that prints
    sys.stdout.flush()


def remark(*lines: str) -> None:
    """Print lines to stderr: what is about the work, and not its result."""
    for line in lines:
        print(printable(line), file=sys.stderr)  # noqa: T201 - see `say`
    sys.stderr.flush()


def show(document: Any) -> None:
    """Print a value as one line of JSON; a list is one array, also where it is empty."""
    print(as_json(msgspec.json.encode(document).decode()), flush=True)  # noqa: T201 - see `say`


def as_json(text: str) -> str:
    """Return JSON in which no character drives a terminal: they stand in strings only, and JSON has escapes there."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in KEPT or c == "\n" else _json_escaped(c) for c in text)


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines in which the columns stand under each other."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
