"""What a server refuses of a batch: the others keep their places, and nothing is given twice."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiokafka.errors import MessageSizeTooLargeError
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from agents.cursors import CursorWriter
from agents.deadletters import DeadLetters, DeadLettersBarred
from agents.inbox import InboxAgent, Lane
from agents.parts import Parts
from agents.sources import Sources
from agents.statuses import Statuses
from schemas.errors import StoreRefused
from schemas.records import Ack
from schemas.rows import Append, Cursor, Head, Rewrite, Row, Standing
from streams.halving import spared
from streams.producer import Emit
from streams.runner import Batch
from tables.logs import LogTable
from tables.scratch import Scratch
from telemetry.worker import WorkerMetrics


class Store:
    """Rows of logs in memory; a row under a seq that another record has is what must never come."""

    def __init__(self, refuses: Callable[[Row], bool]) -> None:
        self.rows: dict[str, dict[int, Row]] = {}
        self._refuses = refuses

    async def heads(self, logs: Sequence[str], recent: int = 256) -> dict[str, Head]:
        return {log: self._head(log) for log in logs}

    def _head(self, log: str) -> Head:
        rows = [row for _, row in sorted(self.rows.get(log, {}).items())]
        marks = tuple(row.mark() for row in reversed(rows))
        return Head(rows[-1].seq, rows[-1].src, rows[-1].n, marks) if rows else Head()

    async def append(self, batches: Sequence[Append]) -> None:
        for batch in batches:
            if any(self._refuses(row) for row in batch.rows):
                raise StoreRefused("one of these rows")
            for row in batch.rows:
                before = self.rows.setdefault(batch.log, {}).setdefault(row.seq, row)
                assert before == row, "a seq is never given twice"

    async def rewrite(self, _rewrites: Sequence[Rewrite]) -> None:
        return  # there is no other owner

    async def standings(self, devices: Sequence[tuple[str, str]], _logs: Sequence[str]) -> list[Standing]:
        return [Standing(None, []) for _ in devices]


class Kafka:
    """Takes all of a call or nothing."""

    def __init__(self, refuses: Callable[[Emit], bool]) -> None:
        self.written: list[Emit] = []
        self._refuses = refuses

    async def emit(self, emits: Iterable[Emit]) -> None:
        found = list(emits)
        if any(self._refuses(emit) for emit in found):
            raise MessageSizeTooLargeError("one of these records")
        self.written += found


class Around:
    """Everything else that the agent meets."""

    dead = frozenset[str]()

    async def publish(self, _parts: Any) -> None:
        return

    async def held(self) -> Mapping[int, int]:
        return {0: 1}

    def get(self, *_: Any) -> dict[str, Any]:
        return {}


async def ends(*partitions: Any) -> dict[Any, int]:
    return dict.fromkeys(partitions, 1_000)


class Worker:
    """One inbox agent, and the runner's way with what is refused."""

    def __init__(self, folder: Path, kafka: Kafka, store: Store) -> None:
        self.kafka, self.store = kafka, store
        around, metrics = cast("Any", Around()), WorkerMetrics(CollectorRegistry())
        parts = Parts(
            store=cast("Any", store), producer=cast("Any", kafka), publisher=around, ownership=around,
            dead_letters=DeadLetters("d", metrics), statuses=Statuses("s", metrics), sources=Sources(ends),
            logs=LogTable(Scratch(folder / "logs")), connections=around, metrics=metrics,
        )  # fmt: skip
        self._agent = InboxAgent(Lane(name="normal", topic="t", number=2, incarnation=1, partitions=1), parts)
        self._offset = 0

    def message(self, user: str, **fields: Any) -> Any:
        self._offset += 1
        value = msgspec.json.encode({"user": user, "title": "t", "id": f"id-{self._offset}", **fields})
        return SimpleNamespace(
            topic="t", key=user.encode(), value=value, headers=(), partition=0, offset=self._offset - 1, timestamp=1.0
        )

    async def run(self, messages: Sequence[Any]) -> None:
        refused: list[tuple[Any, Exception]] = []
        await spared(
            messages,
            lambda part: self._agent.handle(Batch(part, 1)),
            lambda message, why: refused.append((message, why)),
        )
        for message, why in refused:
            await self._agent.reject(message, why)

    def letters(self) -> list[Emit]:
        return [emit for emit in self.kafka.written if emit.topic == "d"]

    def ids(self, user: str) -> list[str]:
        rows = self.store.rows.get(f"inbox/normal/{user}", {})
        assert sorted(rows) == list(range(1, len(rows) + 1))
        return [rows[seq].key for seq in sorted(rows)]


BAD, LATE = "bad", "late"  # devices: of a row that the store refuses, of a status that Kafka does


def worker(folder: Path, letters: Callable[[Emit], bool] = lambda _: False) -> Worker:
    known = {b"id-%d" % number for number in range(10_000)}
    late: set[bytes] = set()

    def refused(emit: Emit) -> bool:
        assert emit.key is None or emit.key in known or emit.topic == "d"
        return letters(emit) if emit.topic == "d" else emit.key in late

    made = Worker(folder, Kafka(refused), Store(lambda row: row.device == BAD))
    message = made.message

    def noted(user: str, **fields: Any) -> Any:
        found = message(user, **fields)
        if fields.get("device") == LATE:
            late.add(f"id-{made._offset}".encode())
        return found

    made.message = noted  # type: ignore[method-assign]  # it only takes a note
    return made


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "ok", BAD, LATE])), max_size=12)))
def test_whatever_is_refused_the_others_are_appended_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[str, str]]]
) -> None:
    async def run() -> None:
        made = worker(tmp_path_factory.mktemp("worker"))
        wanted: dict[str, list[str]] = {"a": [], "b": []}
        told = 0
        for batch in batches:
            messages = []
            for user, device in batch:
                messages.append(made.message(user, **({"device": device} if device else {})))
                if device != BAD:
                    wanted[user].append(f"id-{made._offset}")
                told += device in (BAD, LATE)
            await made.run(messages)
        assert {user: made.ids(user) for user in wanted} == wanted
        assert len(made.letters()) == told
        assert {dict(letter.headers)["tocsin-reason"] for letter in made.letters()} <= {b"refused"}

    asyncio.run(run())


async def test_a_letter_that_is_refused_is_shortened_and_says_so(tmp_path: Path) -> None:
    made = worker(tmp_path, letters=lambda emit: bool(emit.value))
    message = made.message("a", device=BAD)
    message.headers = (("trace", b"1"),)
    await made.run([message])
    (letter,) = made.letters()
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (None, b"")
    assert headers.pop("tocsin-truncated") == b"key,value,headers"
    assert headers["tocsin-reason"] == b"refused"
    assert all(name.startswith("tocsin-") for name in headers)


async def test_dead_letters_that_nobody_takes_are_waited_for_and_never_tried_without_end(tmp_path: Path) -> None:
    tries = 0

    def never(_: Emit) -> bool:
        nonlocal tries
        tries += 1
        return True

    made = worker(tmp_path, letters=never)
    with pytest.raises(DeadLettersBarred):
        await made.run([made.message("a", device=BAD)])
    assert tries == 2


async def test_a_cursor_that_is_refused_is_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    written: list[Cursor] = []

    class Cursors:
        async def put_cursors(self, cursors: Sequence[Cursor]) -> None:
            if any(cursor.user == "bad" for cursor in cursors):
                raise StoreRefused("not this user")
            written.extend(cursors)

    counted: list[str] = []
    writer = CursorWriter(cast("Any", Cursors()), counted.append)
    writer.hurry()
    users = [f"user-{number}" for number in range(250)]
    writer.add([Ack(user, "phone", "inbox/normal", 1, 0) for user in [*users, "bad", *users]])
    await writer.flushed()
    assert sorted(cursor.user for cursor in written if cursor.device) == sorted(users)
    assert counted == ["cursor"] * 2  # what the device has, and what any device of the user has
    assert caplog.text.count("a cursor of user 'bad'") == 2
    assert writer.waiting() == 0
