"""What holds on both stores when a writer is killed, and after a close."""

import asyncio
import sys
from pathlib import Path

import pytest

from schemas.errors import StoreError
from tests.contract.samples import entries, opened, show_dense

LOGS = 20

# Appends one row after the other to many logs and prints what was acknowledged.
WRITER = """
import asyncio, sys
from tests.contract.samples import entries, opened

async def write(store, log):
    seq = 0
    while True:
        seq += 1
        await store.append(entries(log, 1, seq, seq))
        print(log, seq, flush=True)

async def main():
    async with opened(sys.argv[1]) as store:
        await asyncio.gather(*(write(store, f"{sys.argv[2]}/{number}") for number in range(20)))

asyncio.run(main())
"""


async def test_a_killed_writer_leaves_all_that_was_acknowledged(url: str, name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, url, name, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout
    acknowledged = {f"{name}/{number}": 0 for number in range(LOGS)}
    lines = 0
    try:
        async with asyncio.timeout(60):
            async for line in process.stdout:
                if not line.endswith(b"\n"):
                    break  # cut by the kill
                log, seq = line.decode().split()
                acknowledged[log] = int(seq)
                lines += 1
                if lines == 2_000:
                    process.kill()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert lines >= 2_000
    async with opened(url) as store:
        await show_dense(store, acknowledged)
        await store.append(entries(f"{name}/0", 2, acknowledged[f"{name}/0"] + 1, acknowledged[f"{name}/0"] + 1))


async def test_a_closed_store_says_so(url: str, name: str) -> None:
    async with opened(url) as store:
        pass
    with pytest.raises(StoreError, match="closed"):
        await store.append(entries(name, 1, 1, 1))
