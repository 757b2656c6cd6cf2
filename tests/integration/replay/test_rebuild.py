"""`tocsin replay rebuild` and the journal's commands on a real Kafka and a real store."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from cli.replay.journal import Book
from cli.replay.listing import list_runs, show_run
from cli.replay.planning import replay
from cli.replay.reading import reading
from cli.replay.wish import Wish
from cli.topics import apply_topics, opened
from schemas.replays import Run
from schemas.rows import Append
from streams.replay_journal import ReplayError, UnknownRun
from tests.integration.replay.conftest import Floor, crash

Do = Callable[..., Awaitable[dict[str, Any]]]
USERS = [f"u{i}" for i in range(5)]


async def filled(floor: Floor) -> None:
    for lane in ("critical", "normal"):
        await floor.write(
            *(floor.notification(USERS[i % 5], lane, id=f"i{i % 40}", kind=f"k{i % 3}") for i in range(120)),
            *(floor.notification(USERS[i % 5], lane, device="phone" if i % 2 else None) for i in range(300)),
            floor.notification("u1", lane, id="i1", title="other"),
            floor.notification("u1", lane, expires_at="2020-01-01T00:00:00Z"),
        )


async def all_rows(floor: Floor) -> list[Any]:
    return [await floor.rows(user, lane) for lane in ("critical", "normal") for user in USERS]


async def wiped(floor: Floor, folder: Path) -> Floor:
    """The same deployment on a store that is new."""
    other = floor.with_store(f"sqlite://{folder}/other.db")
    await apply_topics(other.settings, as_json=True)
    return other


async def test_a_wiped_store_gets_the_same_rows_again(floor: Floor, tmp_path: Path) -> None:
    await filled(floor)
    await floor.work_off()
    other = await wiped(floor, tmp_path)
    await other.work_off()
    before = await all_rows(floor)
    assert await all_rows(other) == before
    assert sum(len(rows) for rows in before) == 2 * (40 + 300)


async def test_rows_that_are_there_are_compared_and_left(floor: Floor, run: Do) -> None:
    await filled(floor)
    await floor.work_off()
    shown = await run("rebuild")
    assert shown["taken"] == 0
    assert shown["left_out"] == {"there": 680, "no_row": 160, "refused": 4}
    async with opened(floor.settings) as store:
        rows = await floor.rows("u1")
        epoch = await store.claim("inbox", 0, "test")
        forged = msgspec.structs.replace(rows[2], key="forged")
        await store.append([Append("inbox/normal/u1", epoch, [forged, *rows[3:]])])
    done = await run("rebuild", yes=True)
    assert (done["counts"]["differs"], done["counts"]["there"]) == (1, 679)
    assert (await floor.rows("u1"))[2].key == "forged"


async def test_a_rebuild_that_crashed_goes_on(
    floor: Floor, tmp_path: Path, run: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(floor)
    await floor.work_off()
    other = await wiped(floor, tmp_path)
    notes = 0
    note = Book.note

    async def dying(self: Book, state: Run) -> None:
        nonlocal notes
        notes += 1
        if notes == 3:
            raise asyncio.IncompleteReadError(b"", 1)  # the fault: the process dies here
        await note(self, state)

    wish = Wish(operation="rebuild", run="again", yes=True, as_json=True)
    monkeypatch.setattr(Book, "note", dying)
    await crash(replay(other.settings, wish))
    monkeypatch.setattr(Book, "note", note)
    await replay(other.settings, wish)
    assert await all_rows(other) == await all_rows(floor)


async def test_a_store_that_lacks_what_kafka_has_dropped_is_refused(floor: Floor, tmp_path: Path, run: Do) -> None:
    await filled(floor)
    await floor.work_off()
    async with opened(floor.settings) as store:
        epoch = await store.epoch()
    partition = (floor.notification("u1").partition) or 0
    since: dict[str, Any] = {"first": f"{partition}:5", "topic": "notifications.normal"}
    assert (await run("rebuild", **since))["refused"] is None  # the store has what lies before
    other = await wiped(floor, tmp_path)
    with pytest.raises(ReplayError, match=f"partition {partition} of notifications.normal begins at offset 5"):
        await replay(other.settings, Wish(operation="rebuild", yes=True, **since))
    await other.read_up_to("u1", "phone", 2)
    async with opened(other.settings) as store:
        epoch = await store.epoch()
    await replay(other.settings, Wish(operation="rebuild", yes=True, new_epoch=True, **since))
    async with opened(other.settings) as store:
        assert await store.epoch() != epoch
        assert await store.get_cursors(["u1"]) == {"u1": []}
    assert (await other.rows("u1"))[0].seq == 1


async def test_while_workers_are_in_the_group_it_is_refused(floor: Floor, run: Do) -> None:
    await floor.write(floor.notification("u1"))
    worker = AIOKafkaConsumer(
        f"{floor.settings.prefix}notifications.normal",
        bootstrap_servers=floor.settings.kafka,
        group_id=f"{floor.settings.prefix}tocsin-inbox",
    )
    await worker.start()
    try:
        while not worker.assignment():  # noqa: ASYNC110 - the client tells nobody
            await asyncio.sleep(0.05)
        with pytest.raises(ReplayError, match=r"tocsin-inbox is \w+ with 1 members: stop the workers"):
            await run("rebuild", yes=True)
        assert (await run("rebuild"))["taken"] == 1  # to look is harmless
    finally:
        await worker.stop()


async def test_the_journal_names_every_run(floor: Floor, run: Do, capsys: pytest.CaptureFixture[str]) -> None:
    await floor.write(floor.notification("u1"))
    await floor.work_off()
    await run("redeliver", topic="notifications.normal", users=["u1"], yes=True, run="mine")
    capsys.readouterr()
    await list_runs(floor.settings, as_json=True)
    latest, first = json.loads(capsys.readouterr().out)
    assert (latest["run"], latest["event"], first["asked"]["operation"]) == ("mine", "finished", "rebuild")
    await show_run(floor.settings, "mine", as_json=False)
    said = capsys.readouterr().out
    assert "what     redeliver user u1" in said
    assert "count    taken 1" in said
    await list_runs(floor.settings, as_json=False)
    assert "mine" in capsys.readouterr().out
    with pytest.raises(UnknownRun, match="no run mime; did you mean mine"):
        await show_run(floor.settings, "mime", as_json=False)


async def test_a_topic_that_is_missing_is_one_line(floor: Floor) -> None:
    other = msgspec.structs.replace(floor.settings, prefix="none.")
    with pytest.raises(Exception, match=r"Kafka has no topic none\.replays; `tocsin topics apply`"):
        async with reading(other) as reader:
            await reader.extent("none.replays", "replays")
