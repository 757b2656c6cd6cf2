"""Devices that write down what they see."""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import Any, Final, Self

from bench.device import Device, Seen, Watcher
from bench.swarm import Swarm
from proof.history import (
    Ack,
    AtEnd,
    Connected,
    Disconnected,
    Entry,
    Gap,
    History,
    Refused,
    Reset,
    Skip,
    Synced,
    TooLong,
)  # fmt: skip
from proof.load import Load
from schemas.logs import INBOX_LOGS

SILENCE: Final = 35.0  # s without a sign of life after which a device gives its connection up

_HEADS: Final[dict[str, type[TooLong | Reset | Synced]]] = {"too_long": TooLong, "reset": Reset, "synced": Synced}


def _told(frame: Seen, where: dict[str, Any]) -> Skip | Gap | TooLong | Reset | Synced:
    """Return the event of a frame about a range or a place of a log."""
    if frame.type == "skip":
        return Skip(first=frame.first, last=frame.last, reason=frame.reason, **where)
    if frame.type == "gap":
        return Gap(first=frame.first, last=frame.last, **where)
    return _HEADS[frame.type](head=frame.head, **where)


class Recorder(Watcher):
    """Adds to a history what devices see."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.shown: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)  # ids by (user, device, log)
        self.began: dict[
            tuple[str, str, str], int
        ] = {}  # what the user's devices had acknowledged at the first welcome
        self._acked: dict[tuple[str, str], int] = {}  # by (user, log)

    def heard(self, device: Device, frame: Seen, *, shown: bool) -> None:
        """Write down a frame."""
        user, name, at = device.user, device.name, self._history.now()
        match frame.type:
            case "notification":
                if shown:
                    self.shown[user, name, frame.log].add(frame.id)
                entry = Entry(at=at, user=user, device=name, log=frame.log, seq=frame.seq, id=frame.id, shown=shown)
                self._history.add(entry)
            case "error":
                self._history.add(Refused(at=at, user=user, device=name, code=frame.code))
            case "welcome":
                for log in INBOX_LOGS:
                    self.began.setdefault((user, name, log), self._acked.get((user, log), 0))
                welcome = Connected(
                    at=at, user=user, device=name, session=frame.session, epoch=frame.epoch, heads=frame.heads
                )
                self._history.add(welcome)
            case kind if kind in ("skip", "gap") or kind in _HEADS:
                self._history.add(_told(frame, {"at": at, "user": user, "device": name, "log": frame.log}))

    def lost(self, device: Device, code: int) -> None:
        """Write down the end of a connection."""
        self._history.add(Disconnected(at=self._history.now(), user=device.user, device=device.name, code=code))

    def acked(self, device: Device, log: str, seq: int) -> None:
        """Write down an acknowledgement."""
        self._acked[device.user, log] = max(self._acked.get((device.user, log), 0), seq)
        self._history.add(Ack(at=self._history.now(), user=device.user, device=device.name, log=log, seq=seq))


class Devices:
    """Recording devices on a gateway; a context. They acknowledge, come back, and notice dead connections."""

    def __init__(self, history: History, gateway: str, secret: str, *, silence: float = SILENCE) -> None:
        self._history = history
        self.recorder = Recorder(history)
        self.swarm = Swarm(gateway, secret, watcher=self.recorder)
        self._silence = silence
        self._tasks: list[asyncio.Task[None]] = []
        self._dice = random.Random(0)  # noqa: S311 - who is cut next, no secret

    async def __aenter__(self) -> Self:
        for work in (self.swarm.acknowledge_for_ever(), self.swarm.cut_silent_for_ever(self._silence)):
            self.beside(work)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.swarm.leave()

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine until the devices leave."""
        self._tasks.append(asyncio.create_task(work))

    async def join(self, pairs: Iterable[tuple[str, str]], *, late: bool = False) -> list[Device]:
        """Connect a device for each (user, device); return when all are welcomed. `late`: see `Device`."""
        return await self.swarm.join(pairs, late=late)

    async def cut_now_and_then(self, a_second: float) -> None:
        """Cut so many connections a second, at random."""
        while True:
            await asyncio.sleep(self._dice.expovariate(a_second))
            self._dice.choice(self.swarm.devices).cut()

    def lacking(self, load: Load) -> list[tuple[Device, str]]:
        """Return (device, id) of what was acknowledged and a device has not shown; late devices are not asked."""
        return [
            (device, owed.id)
            for device in self.swarm.devices
            if not device.late
            for log in INBOX_LOGS
            for owed in load.owed.get((device.user, log), ())
            if owed.id not in self.recorder.shown[device.user, device.name, log]
        ]

    def behind(self) -> list[Device]:
        """Return late devices that are not as far as the others of their user."""
        heads: dict[tuple[str, str], int] = defaultdict(int)
        for device in self.swarm.devices:
            for log, cursor in device.cursors.items():
                heads[device.user, log] = max(heads[device.user, log], cursor)
        return [device for device in self.swarm.devices if device.late and self._is_behind(device, heads)]

    def _is_behind(self, device: Device, heads: Mapping[tuple[str, str], int]) -> bool:
        began = self.recorder.began
        return any(
            device.cursors.get(log, began.get((device.user, device.name, log), 0)) < heads.get((device.user, log), 0)
            for log in INBOX_LOGS
        )

    def note_final(self) -> None:
        """Write down the devices as they are at the end."""
        for device in self.swarm.devices:
            final = AtEnd(
                at=self._history.now(), user=device.user, device=device.name, cursors=device.cursors, late=device.late
            )
            self._history.add(final)


@contextlib.contextmanager
def not_reading(device: Device) -> Iterator[Device]:
    """Let a device take nothing from the network for a while."""
    device.stop_reading()
    try:
        yield device
    finally:
        device.go_on_reading()
