"""`tocsin demo`: a whole deployment on embedded servers, real notifications, and devices that show what arrives."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer

from cli.connection import Connection
from cli.deployment import Ready, deployment
from cli.device import Cursors, Device, Step
from cli.kafka import producer
from cli.listen import latency_ms
from cli.running import socket_url
from cli.terminal import say
from cli.tokens import make_token, parties
from schemas.errors import TocsinError
from schemas.frames import NotificationFrame
from streams.settings import Settings, read_settings

ARRIVAL: Final = 10.0  # s in which everything that was sent has to be on every device
TOPIC: Final = "notifications.normal"


class Incomplete(TocsinError):
    """Not every notification arrived at every device exactly once, in order."""


class Screen:
    """A device of a user and what it has shown, in order."""

    def __init__(self, ready: Ready, user: str, name: str) -> None:
        self.name = f"{user}/{name}"
        self.user = user
        self.seen: list[str] = []
        self.latencies: list[float] = []
        self._arrived = asyncio.Condition()
        self._live_from = 0.0
        self._task: asyncio.Task[None] | None = None
        self._welcomed = asyncio.Event()
        self._connection = Connection(
            socket_url(Settings(url=ready.gateway)),
            Device(Cursors(user=user, device=name)),
            token=lambda: make_token(ready.secret(), user, device=name, more=parties(read_settings(os.environ))),
            on_step=self._on_step,
            say=lambda _: None,
            device_id=name,
        )

    async def _on_step(self, step: Step) -> None:
        if step.note.startswith("connected"):
            self._welcomed.set()
        for entry in step.show:
            self._show(entry)
        async with self._arrived:
            self._arrived.notify_all()

    def _show(self, entry: NotificationFrame) -> None:
        now = time.time()
        latency = latency_ms(entry, now)
        self.seen.append(entry.id)
        live = now - latency / 1000 > self._live_from
        if live:
            self.latencies.append(latency)
        how = f"{latency:6.0f} ms" if live else "was away "
        say(f"  {self.name:<13} {entry.log} {entry.seq:>3}  {entry.title:<28} {how}")

    async def switch_on(self) -> None:
        """Connect; return when the gateway has said welcome."""
        self._welcomed.clear()
        self._live_from = time.time()
        self._task = asyncio.create_task(self._connection.run())
        welcome = asyncio.create_task(self._welcomed.wait())
        done, _ = await asyncio.wait((self._task, welcome), timeout=ARRIVAL, return_when=asyncio.FIRST_COMPLETED)
        if self._task in done:
            welcome.cancel()
            await self._task
        if not done:
            raise Incomplete(f"{self.name} was not welcomed within {ARRIVAL:.0f} s")

    async def switch_off(self) -> None:
        """Disconnect; the device keeps its cursors."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def has(self, count: int) -> None:
        """Wait until so many notifications were shown. Raises `Incomplete` if they do not come."""
        try:
            async with asyncio.timeout(ARRIVAL), self._arrived:
                await self._arrived.wait_for(lambda: len(self.seen) >= count)
        except TimeoutError:
            raise Incomplete(f"{self.name} shows {len(self.seen)} of {count} after {ARRIVAL:.0f} s") from None


class Story:
    """What the demo does, step by step."""

    def __init__(self, ready: Ready, kafka: AIOKafkaProducer) -> None:
        self.phone, self.laptop = Screen(ready, "ann", "phone"), Screen(ready, "ann", "laptop")
        self.tablet = Screen(ready, "bob", "tablet")
        self.screens = (self.phone, self.laptop, self.tablet)
        self._kafka = kafka
        self._sent: dict[str, list[str]] = {"ann": [], "bob": []}

    async def send(self, user: str, title: str) -> None:
        """Write a notification as any Kafka client would: JSON under the user's id; return when Kafka has it."""
        ids = self._sent[user]
        ids.append(f"demo-{user}-{len(ids) + 1}")
        value = {"id": ids[-1], "user": user, "kind": "demo", "title": title}
        await self._kafka.send_and_wait(TOPIC, json.dumps(value).encode(), user.encode())

    async def arrived(self, *screens: Screen) -> None:
        """Wait until the devices show all that was sent to their users."""
        await asyncio.gather(*(screen.has(len(self._sent[screen.user])) for screen in screens))

    async def tell(self) -> None:
        """Play all of it once."""
        _say("ann's phone and laptop connect; five notifications for each of ann and bob, whose tablet is off")
        await asyncio.gather(self.phone.switch_on(), self.laptop.switch_on())
        for number in range(1, 6):
            await asyncio.gather(self.send("ann", f"Parcel {number} is on its way"), self.send("bob", f"Bill {number}"))
            await self.arrived(self.phone, self.laptop)
        _say("bob's tablet connects for the first time and gets what waited for it, in order")
        await self.tablet.switch_on()
        await self.arrived(self.tablet)
        _say("ann's laptop goes away, three more are sent, the laptop comes back")
        await self.laptop.switch_off()
        for number in range(6, 9):
            await self.send("ann", f"Parcel {number} is on its way")
        await self.arrived(self.phone)
        await self.laptop.switch_on()
        await self.arrived(*self.screens)

    async def go_on(self) -> None:
        """Send one to everybody every 2 s, until cancelled."""
        for number in range(1, sys.maxsize):
            await asyncio.sleep(2)
            await asyncio.gather(*(self.send(user, f"Tick {number}") for user in self._sent))

    def check(self) -> None:
        """Raise `Incomplete` unless every device shows exactly what was sent to its user, in that order."""
        wrong = [screen.name for screen in self.screens if screen.seen != self._sent[screen.user]]
        if wrong:
            raise Incomplete(f"{', '.join(wrong)} did not show exactly what was sent, in order")


def summary(screens: Iterable[Screen]) -> str:
    """Return how many notifications were shown, and the median and maximum latency of those that were live."""
    screens = list(screens)
    latencies = sorted(latency for screen in screens for latency in screen.latencies)
    shown = sum(len(screen.seen) for screen in screens)
    live = f"; live: p50 {latencies[len(latencies) // 2]:.0f} ms, max {latencies[-1]:.0f} ms" if latencies else ""
    return f"{shown} notifications on {len(screens)} devices, each exactly once, in order{live}"


async def run_demo(*, once: bool) -> int:
    """Play the demo; without `once` go on until Ctrl-C. Raises `Incomplete`, or `ServerFailed` if it cannot start."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: task and task.cancel())
    playing = False
    try:
        start = time.monotonic()
        _say("starting Kafka, Redis and the store (embedded), one worker and one gateway")
        async with (
            deployment("--stack", "embedded", here=True, show=_show_part) as ready,
            producer({"bootstrap_servers": ready.kafka}, idempotent=False) as kafka,
        ):
            _say(f"ready after {time.monotonic() - start:.1f} s")
            async with _story(ready, kafka) as story:
                await story.tell()
                story.check()
                _say(summary(story.screens))
                playing = not once
                if playing:
                    _invite(ready)
                    await story.go_on()
    except asyncio.CancelledError:
        return 0 if playing else 130
    return 0


@contextlib.asynccontextmanager
async def _story(ready: Ready, kafka: AIOKafkaProducer) -> AsyncIterator[Story]:
    story = Story(ready, kafka)
    try:
        yield story
    finally:
        await asyncio.gather(*(screen.switch_off() for screen in story.screens))


def _invite(ready: Ready) -> None:
    lines: Sequence[str] = (
        f"Kafka {ready.kafka}, gateway {socket_url(Settings(url=ready.gateway))}; one more every 2 s until Ctrl-C",
        "in another shell, from this folder: tocsin send ann 'hello'   or: tocsin listen ann --device desk",
    )
    for line in lines:
        _say(line)


def _show_part(line: str) -> None:
    """Show which part of the deployment is ready, and what it waits for."""
    if " ready " in line or "waiting for" in line:
        say(f"  {line.removeprefix('tocsin: ')}")


def _say(text: str) -> None:
    say(f"* {text}")
