"""What `tocsin up` prints: a line for each part as it comes, and what to do when all is there."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from cli import terminal
from stack.assembly import Addresses, Kind, Kinds
from store.urls import parse
from streams.security import without_password

_HOW: Final[Mapping[Kind, str]] = {"embedded": "embedded", "real": "real", "own": "yours"}
_STEPS: Final = {"store apply": "store", "topics apply": "topics"}


def came(part: str, at: Addresses, kinds: Kinds, socket: str, seconds: float) -> str:
    """Return the line for a part that is ready: kafka, redis or store, which were started, a step or a program."""
    name, where, how = _STEPS.get(part, part), "", ""
    if part == "kafka":
        where, how = f"on {at.kafka}", _HOW[kinds.kafka]
    elif part == "redis":
        where, how = f"on {without_password(at.redis)}", _HOW[kinds.redis]
    elif part == "store":
        name, where, how = "cassandra", f"on {at.store.removeprefix('cassandra://').partition('/')[0]}", "real"
    elif part == "store apply":
        store = without_password(at.store)
        where, how = f"in {str(parse(store)) if store.startswith('sqlite:') else store}", _HOW[kinds.store]
    elif part.startswith("gateway"):
        where = f"on {socket}"
    return f"{name:<12} ready{f' {where}' if where else ''} ({f'{how}, ' if how else ''}{seconds:.1f} s)"


def summary(*, kinds: Kinds, at: Addresses, socket: str, secret: str, folder: Path, temporary: bool) -> Sequence[str]:
    """Return what is said once all is ready. `secret` says where the key of the tokens is."""
    different = {getattr(kinds, part) for part in ("kafka", "redis", "store")}
    if len(different) == 1:
        kind: Kind = kinds.kafka
        servers = f"{_HOW[kind]} servers" if kind != "own" else "on your servers"
    else:
        servers = f"kafka {_HOW[kinds.kafka]}, redis {_HOW[kinds.redis]}, store {_HOW[kinds.store]}"
    return (
        f"Tocsin is up ({servers}).",
        f"  gateway  {socket}",
        f"  kafka    {at.kafka}",
        f"  secret   {secret}",
        f"  data     {folder}{' (removed at the end)' if temporary else ''}",
        'A token is a JWT, signed with the secret (HS256): {"sub": USER, "iat": NOW, "exp": NOW + 600}.',
        "Three lines of Python or Node make one (README.md), or `tocsin token u1`.",
        "Try it from this folder in two more shells:",
        "  tocsin listen u1",
        "  tocsin send u1 'hello'",
        "Ctrl-C ends everything.",
    )


def show(line: str) -> None:
    """Print a line on stdout."""
    _print(terminal.say, line, sys.stdout)


def say(line: str) -> None:
    """Print a line about the work on stderr."""
    _print(terminal.remark, f"tocsin: {line}", sys.stderr)


def show_log(name: str, line: str) -> None:
    """Print a line of the log of a part on stderr."""
    _print(terminal.remark, f"{name:>14} | {line}", sys.stderr)


def _print(write: Callable[[str], None], line: str, stream: TextIO) -> None:
    """Print a line. Where nobody reads any more (a closed terminal, `| head`) the deployment goes on in silence."""
    try:
        write(line)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        with contextlib.suppress(OSError):
            stream.flush()
