"""Rows whose content says who wrote them, stores that are open for a while, and what is shown of both."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from store.port import Append, Range, Row, Store
from store.urls import migrations, open_store


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """Migrate and open the store that a URL names."""
    await migrations(url).apply()
    store = open_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def row(seq: int, *, by: str = "owner", size: int = 100) -> Row:
    """Return a row whose content says who wrote it."""
    return Row(
        seq=seq,
        src=1_000 + seq,
        n=seq - 1,
        key=f"key-{seq}",
        digest=seq.to_bytes(8, "big"),
        ts=1_700_000_000_000 + seq,
        expires=0,
        device="",
        frame=f"{by} {seq} ".encode().ljust(size, b"."),
        skip="rate_limited" if seq % 7 == 0 else "",
        tat=1_700_000_000_000_000 + seq,
        expiring=seq // 2,
        latest=1_800_000_000_000 + seq,
    )


def entries(log: str, epoch: int, first: int, last: int, *, by: str = "owner", size: int = 100) -> list[Append]:
    """Return an append of the rows first to last of one log."""
    return [Append(log, epoch, [row(seq, by=by, size=size) for seq in range(first, last + 1)])]


async def show_dense(store: Store, acknowledged: dict[str, int]) -> None:
    """Show that each log has all that was acknowledged, and perhaps one row more."""
    heads = await store.heads(list(acknowledged))
    rows = await store.read([Range(log, 1, 1 << 20) for log in acknowledged])
    for (log, seq), found in zip(acknowledged.items(), rows, strict=True):
        assert found == [row(number) for number in range(1, heads[log].seq + 1)]
        assert seq <= heads[log].seq <= seq + 1


async def until(condition: Callable[[], bool], within: float) -> None:
    """Wait for a condition, at most `within` s."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} s"
        await asyncio.sleep(0.05)
