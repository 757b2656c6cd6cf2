"""A swarm of devices in one process, and what they noticed together."""

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from bench.device import Device, Seen, Watcher

ACK_EVERY: Final = 0.2  # s


class Swarm:
    """Many devices, and what they noticed together."""

    def __init__(
        self,
        gateway: str,
        secret: str,
        *,
        on_entry: Callable[[Device, Seen], None] | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        at = urlsplit(gateway)
        self.address = (at.hostname or "127.0.0.1", at.port or 80)
        self.secret = secret
        self.devices: list[Device] = []
        self.received = self.welcomes = self.reconnects = self.resets = 0
        self.closes: dict[int, int] = {}
        self.faults: list[str] = []
        self.unacked: set[Device] = set()
        self.on_entry: Callable[[Device, Seen], None] = on_entry or (lambda _device, _frame: None)
        self.watcher = watcher or Watcher()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def fault(self, device: Device, what: str) -> None:
        """Note that a device saw something that must not be."""
        self.faults.append(f"{device.user}/{device.name}: {what}")

    async def join(self, users: Iterable[tuple[str, str]], *, at_once: int = 200, late: bool = False) -> list[Device]:
        """Connect a device for each (user, device name) and return when all are welcomed."""
        new = [Device(self, user, name, late=late) for user, name in users]
        self.devices += new
        for start in range(0, len(new), at_once):
            part = new[start : start + at_once]
            await asyncio.gather(*(device.connect() for device in part))
            await until(lambda part=part: all(device.welcomed for device in part), 60, "devices are welcomed")  # type: ignore[misc]  # a lambda with a default
        return new

    async def acknowledge_for_ever(self) -> None:
        """Acknowledge what arrived, every 200 ms."""
        while True:
            await asyncio.sleep(ACK_EVERY)
            waiting, self.unacked = self.unacked, set()
            for device in waiting:
                device.acknowledge()

    async def cut_silent_for_ever(self, seconds: float) -> None:
        """Let devices notice connections that are dead without having been closed."""
        while True:
            await asyncio.sleep(seconds / 4)
            for device in self.devices:
                device.cut_if_silent(seconds)

    async def leave(self) -> None:
        """Close every device."""
        for device in self.devices:
            device.leave()
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds. Raises `TimeoutError` that says what did not become true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:.0f} s it is still not true that {what}")
        await asyncio.sleep(0.02)


def created_ms(frame: Seen) -> float:
    """Return the append time of an entry, ms since 1970."""
    return datetime.fromisoformat(frame.created_at).timestamp() * 1000
