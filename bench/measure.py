"""Figures: CPU by process, percentiles, tables on the terminal."""

import asyncio
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

WIDTH: Final = 200  # of tables that go to a file
IDLE: Final = 0.05  # cores that processes use which have worked everything off
LOOK_EVERY: Final = 0.25  # s; a look goes through all processes of the machine


def chosen(parser: ArgumentParser, text: str, known: Iterable[str]) -> list[str]:
    """Return the targets that a command line names, separated by commas; ends with what there is for an unknown one."""
    names, there_is = text.split(","), list(known)
    for name in names:
        if name not in there_is:
            parser.error(f"there is no target {name!r}; there are {', '.join(there_is)}")
    return names


def number(text: str) -> float:
    """Return a number above 0 of a command line. Raises `ArgumentTypeError`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not isfinite(value) or value <= 0:
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def count(text: str) -> int:
    """Return a whole number above 0 of a command line. Raises `ArgumentTypeError`."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def numbers(text: str) -> list[float]:
    """Return numbers above 0 that commas separate. Raises `ArgumentTypeError`."""
    return [number(one) for one in text.split(",")]


def counts(text: str) -> list[int]:
    """Return whole numbers above 0 that commas separate. Raises `ArgumentTypeError`."""
    return [count(one) for one in text.split(",")]


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return user and system time of each process so far, with its children."""
    result: dict[str, float] = {}
    for name, pid in pids.items():
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            result[name] = sum(sum(p.cpu_times()[:2]) for p in family)
        except psutil.NoSuchProcess:
            result[name] = 0.0
    return result


def since(pids: Mapping[str, int], before: Mapping[str, float]) -> dict[str, float]:
    """Return the CPU-seconds of each process since `before`, an answer of `cpu_seconds`."""
    return {name: used - before[name] for name, used in cpu_seconds(pids).items()}


def spent(pids: Mapping[str, int], before: Mapping[str, float]) -> float:
    """Return the CPU-seconds of all processes together since `before`."""
    return sum(since(pids, before).values())


async def rested(
    pids: Mapping[str, int], *, seconds: float, within: float, also: Callable[[], bool] = lambda: True
) -> dict[str, float]:
    """Wait until processes have next to nothing to do for so many seconds, and something else is true as well.

    Returns the CPU-seconds of each as they were when that began. Raises `TimeoutError`.
    """
    begun = quiet_from = time.monotonic()
    used = cpu_seconds(pids)
    while time.monotonic() - quiet_from < seconds:
        if time.monotonic() - begun > within:
            raise TimeoutError(f"{', '.join(pids)}: there was still work after {within:.0f} s")
        await asyncio.sleep(LOOK_EVERY)
        now = cpu_seconds(pids)
        if sum(now.values()) - sum(used.values()) > IDLE * seconds or not also():
            quiet_from, used = time.monotonic(), now
    return used


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*(f"{cell:,.1f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
