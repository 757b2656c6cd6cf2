"""Owners of a partition in turn: the real inbox agent on a real store, frozen at its append where the test wants it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from faust.types import TP
from prometheus_client import CollectorRegistry

from agents.deadletters import DeadLetters
from agents.inbox import InboxAgent, Lane
from agents.parts import Parts
from agents.sources import Sources
from agents.statuses import Statuses
from schemas.rows import Append
from store.port import Store
from streams.inbox import LogState
from streams.limits import Limit
from telemetry.worker import WorkerMetrics
from tests.contract.samples import until

METRICS = WorkerMetrics(CollectorRegistry())
END = 1 << 40  # no topic ends before it


class Freezing:
    """A store whose appends wait until they are let go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    async def append(self, batches: Sequence[Append]) -> None:
        if batches:
            self.waiting += 1
            await self.gate.wait()
        await self._store.append(batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Table(dict[str, LogState]):
    """The states of one assignment."""

    def get(self, log: str, _epoch: int) -> LogState | None:  # type: ignore[override]  # a table has no default
        return super().get(log)

    def write(self, states: Mapping[str, LogState]) -> None:
        self.update(states)


class Around:
    """Everything else: nobody is connected, and nothing is lost."""

    dead = frozenset[str]()

    def __init__(self, epoch: int) -> None:
        self._epochs = {0: epoch}
        self.emitted: list[Any] = []

    async def held(self) -> Mapping[int, int]:
        return self._epochs

    async def publish(self, _parts: Any) -> None:
        pass

    async def emit(self, emits: Sequence[Any]) -> None:
        self.emitted += emits


class Nobody:
    def get(self, *_: Any) -> dict[str, Any]:
        return {}


async def _ends(*partitions: TP) -> dict[TP, int]:
    return dict.fromkeys(partitions, END)


class Owner:
    """A worker under one assignment of the one partition."""

    def __init__(self, store: Store, epoch: int, limit: Limit | None = None) -> None:
        self.store = Freezing(store)
        self.around = Around(epoch)
        self._agent = InboxAgent(
            Lane("normal", "t", 2, 1, 1, limit),
            Parts(
                store=cast("Any", self.store),
                producer=cast("Any", self.around),
                publisher=cast("Any", self.around),
                ownership=cast("Any", self.around),
                dead_letters=DeadLetters("d", METRICS),
                statuses=Statuses("s", METRICS),
                sources=Sources(_ends),
                logs=cast("Any", Table()),
                connections=cast("Any", Nobody()),
                metrics=METRICS,
            ),
        )
        self._frozen: asyncio.Task[None] | None = None

    async def handle(self, messages: Sequence[Any]) -> None:
        """Handle a batch to its end: then it is acked."""
        await self._agent.handle(cast("Any", SimpleNamespace(messages=list(messages))))

    async def freeze(self, messages: Sequence[Any]) -> None:
        """Handle a batch up to its append, and stop there."""
        self.store.gate.clear()
        self._frozen = asyncio.create_task(self.handle(messages))
        await until(lambda: self.store.waiting > 0, 10.0)

    async def thaw(self) -> None:
        """Go on with the append."""
        assert self._frozen is not None
        self.store.gate.set()
        await self._frozen


def messages(user: str, first: int, last: int, **more: Any) -> list[Any]:
    """Return the records of a user at the offsets `first` to `last`."""
    return [
        SimpleNamespace(
            key=user.encode(),
            value=json.dumps({"user": user, "title": f"t{offset}", **more}).encode(),
            headers=(),
            topic="t",
            partition=0,
            offset=offset,
            timestamp=1_700_000_000.0,
        )
        for offset in range(first, last + 1)
    ]
