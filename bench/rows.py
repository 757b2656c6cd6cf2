"""What entries take on the store's disk: `python -m bench rows --help`.

A store is filled with rows of users who have a hundred each; their bodies are made-up words at random, so that
compression does not find the same text over and over. Cassandra writes its tables out before its folder is looked at.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from bench.filling import ROWS, fill
from bench.measure import chosen, count, cpu_seconds, show, since
from proof.servers import Servers
from store import cluster
from store.urls import migrations, parse

KEYSPACE: Final = "tocsin"
FLUSH_EVERY: Final = 1_000  # ms
STILL: Final = 5  # looks, a second apart, at a folder that does not change: flushes and compactions are done
PATIENCE: Final = 120.0  # s


class Row(msgspec.Struct, frozen=True):
    """One store: how many rows it was given, bytes of disk a row, and CPU-s a row of the server, if it is one."""

    store: str
    rows: int
    disk: float
    cpu: float
    seconds: float


def size(files: Path, pattern: str) -> int:
    """Return how many bytes the files below a folder have."""
    total = 0
    for file in files.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # a compaction has just replaced it
            total += file.stat().st_size if file.is_file() else 0
    return total


async def settled(files: Path, pattern: str) -> int:
    """Wait until files stay as large as they are, and return that. Raises `TimeoutError`."""
    before, still, end = -1, 0, time.monotonic() + PATIENCE
    while still < STILL:
        if time.monotonic() > end:
            raise TimeoutError(f"{files} still changes after {PATIENCE:.0f} s")
        await asyncio.sleep(1)  # between two looks
        now = size(files, pattern)
        before, still = now, still + 1 if now and now == before else 0
    return before


async def in_sqlite(folder: Path, rows: int) -> Row:
    """Fill a file."""
    url = f"sqlite:///{folder}/rows.db"
    await migrations(url).apply()
    begun = time.monotonic()
    await fill(url, rows)
    return Row("sqlite", rows, size(folder, "rows.db*") / rows, 0.0, time.monotonic() - begun)


async def in_cassandra(folder: Path, rows: int) -> Row:
    """Fill a server of our own, and let it write everything out."""
    with Servers(folder / "servers") as servers:
        await servers.start("cassandra")
        url = f"cassandra://{servers.address('cassandra')}/{KEYSPACE}"
        await migrations(url).apply()
        pids = {"cassandra": servers.pid("cassandra")}
        before, begun = cpu_seconds(pids), time.monotonic()
        await fill(url, rows)
        spent, took = since(pids, before)["cassandra"], time.monotonic() - begun
        await asyncio.to_thread(_flush, url)
        disk = await settled(folder / "servers" / "cassandra" / "data" / KEYSPACE, "log_rows-*/*")
    return Row("cassandra", rows, disk / rows, spent / rows, took)


def _flush(url: str) -> None:
    """Have Cassandra write its rows to disk every second; there is no statement that does it once."""
    address: Any = parse(url)
    session = cluster.connect(address)
    try:
        session.execute(f"ALTER TABLE {KEYSPACE}.log_rows WITH memtable_flush_period_in_ms = {FLUSH_EVERY}")
    finally:
        session.cluster.shutdown()


STORES: Final = {"cassandra": in_cassandra, "sqlite": in_sqlite}


async def run(names: Sequence[str], rows: int) -> list[Row]:
    """Fill each store in turn."""
    found = []
    for name in names:
        print(f"{name}: {rows:,} rows ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
            found.append(await STORES[name](Path(folder), rows))
    return found


def main(arguments: Sequence[str]) -> int:
    """Print a line for each store."""
    parser = argparse.ArgumentParser(prog="python -m bench rows", description=__doc__)
    parser.add_argument("--store", default="cassandra,sqlite", help="separated by commas: %(default)s")
    parser.add_argument("--rows", type=count, default=500_000, help=f"whole users of {ROWS}; %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    if given.rows < ROWS:
        parser.error(f"--rows is {given.rows}; a user has {ROWS}, and there has to be one")
    found = uvloop.run(run(chosen(parser, given.store, STORES), given.rows // ROWS * ROWS))
    columns = ("store", "rows", "bytes a row", "the server's CPU µs a row", "rows/s")
    lines = [(one.store, f"{one.rows:,}", one.disk, one.cpu * 1e6, f"{one.rows / one.seconds:,.0f}") for one in found]
    show("What entries take on disk, one copy", columns, lines)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(found))
    return 0
