"""The whole at work, on real servers: every device gets every entry exactly once, in order, now or later."""

import asyncio
from pathlib import Path

import msgspec

from bench import whole
from cli.deployment import Ready
from tests.system import start, stop


async def test_every_device_gets_every_entry_once_in_order_whether_it_is_there_or_comes_later(tmp_path: Path) -> None:
    running = await asyncio.to_thread(start, tmp_path, "--stack", "real", "--gateways", "2")
    try:
        ready = msgspec.structs.replace(msgspec.convert(running.ready, Ready), folder=tmp_path / "data")
        result = await whole.run(ready, records=10_000, users=500, connected=100)
        assert result.faults == []
        assert result.dead_letters == 0
        assert result.deliveries > result.records
    finally:
        await asyncio.to_thread(stop, running.process)
