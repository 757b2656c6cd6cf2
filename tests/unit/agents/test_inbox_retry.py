"""A store that took an append and yet reported a failure: the retry must not keep the entry from connected devices."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from agents.deadletters import DeadLetters
from agents.inbox import InboxAgent, Lane
from agents.parts import Parts
from agents.sources import Sources
from agents.statuses import Statuses
from schemas.bus import GAP, Part
from schemas.errors import StoreError
from schemas.rows import Append, Head, Rewrite, Row, Standing
from streams.connections import Place
from telemetry.worker import WorkerMetrics


class ForgetfulStore:
    """Takes the first append and says that it did not."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.failures = 1

    async def heads(self, logs: Sequence[str]) -> dict[str, Head]:
        marks = tuple(r.mark() for r in reversed(self.rows))
        head = self.rows[-1].head(marks) if self.rows else Head()
        return dict.fromkeys(logs, head)

    async def append(self, batches: Sequence[Append]) -> None:
        self.rows += [row for batch in batches for row in batch.rows]
        if self.failures:
            self.failures -= 1
            raise StoreError("no answer in time")

    async def rewrite(self, rewrites: Sequence[Rewrite]) -> None:
        self.rewritten = [(each.epoch, each.first) for each in rewrites]

    async def standings(self, wanted: Sequence[tuple[str, str]], logs: Sequence[str]) -> list[Standing]:
        return [Standing(None, []) for _ in wanted]


class Surroundings:
    """What else the agent talks to; it keeps what is published."""

    dead = frozenset[str]()

    def __init__(self) -> None:
        self.published: list[Mapping[str, list[Part]]] = []

    async def publish(self, parts: Mapping[str, list[Part]]) -> None:
        self.published.append(parts)

    async def emit(self, emits: Sequence[Any]) -> None:
        assert not emits

    async def held(self) -> dict[int, int]:
        return {0: 1}


class Unknown:
    """The table of logs of a worker that has touched none."""

    def get(self, *_: Any) -> None:
        return None

    def write(self, *_: Any) -> None:
        pass


class Connected:
    """The table of connections, with one session."""

    def get(self, *_: Any) -> dict[str, Place]:
        return {"s1": Place("g1", "phone")}


async def ends(*partitions: TP) -> dict[TP, int]:
    return dict.fromkeys(partitions, 1)


async def test_the_retry_tells_the_sessions_that_the_entry_is_there() -> None:
    store, around, metrics = ForgetfulStore(), Surroundings(), WorkerMetrics(CollectorRegistry())
    agent = InboxAgent(
        Lane(name="normal", topic="t", number=2, incarnation=1, partitions=1),
        Parts(
            store=cast("Any", store),
            producer=cast("Any", around),
            publisher=cast("Any", around),
            ownership=cast("Any", around),
            dead_letters=DeadLetters("d", metrics),
            statuses=Statuses("s", metrics),
            sources=Sources(ends),
            logs=cast("Any", Unknown()),
            connections=cast("Any", Connected()),
            metrics=metrics,
        ),
    )
    message = SimpleNamespace(
        key=b"u1", value=b'{"user":"u1","title":"t"}', headers=(), partition=0, offset=0, timestamp=1.0
    )
    batch = cast("Any", SimpleNamespace(messages=[message]))
    with pytest.raises(StoreError):
        await agent.handle(batch)
    await agent.handle(batch)
    assert [row.seq for row in store.rows] == [1]
    assert store.rewritten == [(1, 1)]
    (delivery,) = around.published[-1]["g1"][0].deliveries
    assert [(run.first, run.last, run.reason) for run in delivery.runs] == [(1, 1, GAP)]
