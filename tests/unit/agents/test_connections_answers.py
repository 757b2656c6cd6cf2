"""What the connections agent reads for its answers, and when it had better not."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from agents.answers import PIECE
from agents.connections import ConnectionsAgent
from agents.cursors import CursorWriter
from schemas.records import Sync, SyncRequest, encode
from schemas.rows import Head, Range, Row
from streams.runner import Batch
from streams.turnstile import Beside, Turnstile

LOG, USER = "inbox/normal", "ann"


class Store:
    """One log of 100 heavy rows; it counts how often rows are asked for."""

    def __init__(self) -> None:
        self.reads: list[int] = []

    async def epoch(self) -> str:
        return "e1"

    async def heads(self, logs: Sequence[str], recent: int) -> dict[str, Head]:
        assert recent == 0
        return dict.fromkeys(logs, Head(seq=100))

    async def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        self.reads.append(len(ranges))
        return [[Row(100, 1, 1, "", b"", 1, 0, "", b"x" * 500_000)] for _ in ranges]


class Around:
    """What else the agent talks to. `takes`: whether Redis takes messages."""

    dead = frozenset[str]()

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.logs: list[str] = []  # of each answer, in order

    @property
    def published(self) -> int:
        return len(self.logs)

    def heard_of(self, gateway: str) -> None:
        assert gateway == "g"

    async def reaches(self) -> bool:
        return self.takes

    async def publish(self, parts: dict[str, list[Any]]) -> None:
        self.logs += [answer.log for items in parts.values() for part in items for answer in part.answers]

    async def emit(self, emits: Sequence[Any]) -> None:
        assert not emits

    async def held(self) -> dict[int, int]:
        return {0: 1}

    def get(self, *_: Any) -> Any:
        return None

    def merged(self, *_: Any) -> list[Any]:
        return []


class Connections:
    """The table of connections; every session asked of is known."""

    def get(self, _partition: int, user: str) -> dict[str, Any]:
        return {f"s{number}": None for number in range(300)}

    async def write(self, _producer: Any, changes: Any) -> None:
        assert not changes


async def answered(store: Store, around: Around, sessions: int, logs: Sequence[str] = (LOG,)) -> None:
    parts = SimpleNamespace(
        store=store,
        producer=around,
        publisher=around,
        ownership=around,
        dead_letters=around,
        statuses=around,
        logs=around,
        connections=Connections(),
    )
    beside = Beside(Turnstile(), (), lambda: None)
    agent = ConnectionsAgent(cast("Any", parts), CursorWriter(cast("Any", store)), beside, partitions=1, backlog=600)
    asked = [
        SyncRequest(USER, f"s{number}", "web", log, number, 10, asked=True)
        for number in range(sessions)
        for log in logs
    ]
    message = SimpleNamespace(partition=0, value=encode(Sync(gateway="g", syncs=asked)))
    batch = Batch([message], epoch=1)
    await agent.handle(batch)
    ((_, work),) = batch.held
    await work()


async def test_rows_are_not_even_read_while_redis_takes_nothing() -> None:
    store, around = Store(), Around(takes=False)
    await answered(store, around, 10)
    assert (store.reads, around.published) == ([], 0)


async def test_heavy_rows_are_read_for_few_sessions_at_a_time() -> None:
    store, around = Store(), Around(takes=True)
    await answered(store, around, 90)
    assert around.published == sum(store.reads) == 90
    assert store.reads[0] == PIECE
    assert max(store.reads[1:]) <= 8  # of half a megabyte each


async def test_all_urgent_logs_are_answered_before_the_others() -> None:
    around = Around(takes=True)
    await answered(Store(), around, 40, ("inbox/bulk", "inbox/critical"))
    assert around.logs == ["inbox/critical"] * 40 + ["inbox/bulk"] * 40
