"""`tocsin replay redeliver` on a real Kafka and a real store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from cli.replay.journal import Book
from schemas.replays import Run
from streams.replay_journal import ReplayError
from streams.replay_range import RangeError
from tests.integration.replay.conftest import Floor, crash

Do = Callable[..., Awaitable[dict[str, Any]]]
NORMAL = "notifications.normal"


async def test_the_plan_counts_and_changes_nothing(floor: Floor, run: Do) -> None:
    emits = [floor.notification(f"u{i % 3}", kind=f"k{i % 2}", id=f"i{i}") for i in range(12)]
    await floor.write(*emits)
    await floor.work_off()
    before = len(await floor.records("replays"))
    shown = await run("redeliver", topic=NORMAL)
    assert (shown["taken"], shown["kinds"], shown["users"]) == (
        12,
        {"k0": 6, "k1": 6},
        {"u0": 4, "u1": 4, "u2": 4},
    )
    assert len(await floor.values()) == 12
    assert len(await floor.records("replays")) == before
    assert shown["command"].startswith(f"tocsin replay redeliver --topic {NORMAL} --from ")


async def test_what_is_sent_again_is_the_same_under_the_name_of_the_run(floor: Floor, run: Do) -> None:
    await floor.write(floor.notification("u1", id="a", data={"x": [1, 2]}, other="kept", kind="k"))
    await floor.work_off()
    done = await run("redeliver", topic=NORMAL, yes=True)
    assert (done["event"], done["counts"], done["code"]) == ("finished", {"taken": 1}, 0)
    first, again = await floor.values()
    assert again == {**first, "id": f"replay:{done['run']}:a", "replayed": True}
    await floor.work_off()
    rows = await floor.rows("u1")
    assert [row.seq for row in rows] == [1, 2]
    assert b'"replayed":true' in rows[1].frame
    assert b"replayed" not in rows[0].frame


async def test_the_same_run_again_does_nothing(floor: Floor, run: Do) -> None:
    await floor.write(*(floor.notification("u1", id=f"i{i}") for i in range(5)))
    await floor.work_off()
    done = await run("redeliver", topic=NORMAL, last="1000", yes=True, run="mine")
    again = await run("redeliver", yes=True, run="mine")
    assert (again["event"], again["counts"]) == ("finished", done["counts"])
    assert len(await floor.values()) == 10


async def test_an_open_range_typed_twice_sends_nothing_twice(floor: Floor, run: Do) -> None:
    await floor.write(*(floor.notification(f"u{i % 3}", id=f"i{i}") for i in range(9)), floor.notification("u1"))
    await floor.work_off()
    first = await run("redeliver", topic=NORMAL, again=True, yes=True)
    await floor.write(floor.notification("u1", id="new"))
    await floor.work_off()
    planned = await run("redeliver", topic=NORMAL, again=True)
    assert (planned["taken"], planned["left_out"]) == (1, {"redelivered": 10, "replay": 10})
    second = await run("redeliver", topic=NORMAL, again=True, yes=True)
    assert (second["taken"], second["run"] == first["run"]) == (1, False)
    assert (await run("redeliver", topic=NORMAL, first="-1h", yes=True))["taken"] == 0
    assert len(await floor.values()) == 11 + 11
    named = await run("redeliver", topic=NORMAL, yes=True, run="once-more")
    assert named["taken"] == 11


@pytest.mark.parametrize("noted", [True, False])
async def test_what_was_sent_before_an_interruption_is_not_sent_by_the_same_command(
    floor: Floor, run: Do, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await floor.write(*(floor.notification("u1", id=f"i{i}") for i in range(450)))
    await floor.work_off()
    note, notes = Book.note, 0

    async def dying(self: Book, state: Run) -> None:
        nonlocal notes
        notes += 1
        if notes == 2 + noted:
            raise asyncio.IncompleteReadError(b"", 1)  # the fault: the process dies here
        await note(self, state)

    monkeypatch.setattr(Book, "note", dying)
    await crash(run("redeliver", topic=NORMAL, yes=True))
    monkeypatch.setattr(Book, "note", note)
    await run("redeliver", topic=NORMAL, yes=True)
    sent = [one["id"].rpartition(":")[2] for one in await floor.values() if one.get("replayed")]
    assert sorted(sent) == sorted(f"i{i}" for i in range(450))


async def test_a_replay_is_never_replayed(floor: Floor, run: Do) -> None:
    await floor.write(floor.notification("u1", id="a"))
    await floor.work_off()
    await run("redeliver", topic=NORMAL, yes=True)
    await floor.work_off()
    shown = await run("redeliver", topic=NORMAL, run="anew")
    assert (shown["taken"], shown["left_out"]) == (1, {"replay": 1})


async def test_what_is_left_out_is_counted_by_its_reason(floor: Floor, run: Do) -> None:
    wrong = (floor.notification("u1").partition or 0) + 1
    await floor.write(
        floor.notification("u1", id="read"),
        floor.notification("u1", id="unread"),
        floor.notification("u1", id="unread"),
        floor.notification("u1", id="late", expires_at="2020-01-01T00:00:00Z"),
        floor.notification("u1", id="bad", title=7),
        floor.notification("u1", id="moved", partition=wrong % 4),
        floor.notification("u2", id="nobody-has-read"),
    )
    await floor.work_off()
    await floor.read_up_to("u1", "phone", 1)
    shown = await run("redeliver", topic=NORMAL)
    assert shown["left_out"] == {"read": 1, "no_entry": 1, "expired": 1, "dead_letter": 1, "moved": 1}
    assert shown["taken"] == 2
    assert (await run("redeliver", topic=NORMAL, again=True))["taken"] == 3


async def test_read_is_what_every_device_has_read(floor: Floor, run: Do) -> None:
    await floor.write(*(floor.notification("u1", id=f"i{i}") for i in range(4)))
    await floor.work_off()
    await floor.read_up_to("u1", "phone", 3)
    await floor.read_up_to("u1", "web", 1)
    assert (await run("redeliver", topic=NORMAL))["left_out"] == {"read": 1}


async def test_filters_and_ranges_choose(floor: Floor, run: Do) -> None:
    emits = [floor.notification(f"u{i % 2}", kind=f"k{i % 3}", id=f"i{i}") for i in range(12)]
    await floor.write(*emits)
    await floor.work_off()
    assert (await run("redeliver", topic=NORMAL, users=["u1"]))["users"] == {"u1": 6}
    assert (await run("redeliver", topic=NORMAL, kinds=["k1"]))["taken"] == 4
    assert (await run("redeliver", topic=NORMAL, keys=["i3", "i4"]))["taken"] == 2
    home = emits[1].partition
    first = await run("redeliver", topic=NORMAL, users=["u1"], first=f"{home}:0", last=f"{home}:2")
    assert first["spans"] == [[NORMAL, home, 0, 2]]
    assert (await run("redeliver", topic=NORMAL, first="-1h"))["taken"] == 12
    assert (await run("redeliver", topic=NORMAL, last="-1h"))["taken"] == 0


async def test_an_id_made_from_a_position_is_a_range_of_one(floor: Floor, run: Do) -> None:
    await floor.write(*(floor.notification("u1") for _ in range(3)))
    await floor.work_off()
    row = (await floor.rows("u1"))[1]
    id_ = row.frame.split(b'"id":"')[1].split(b'"')[0].decode()
    shown = await run("redeliver", first=id_, last=id_)
    assert (shown["taken"], shown["spans"][0][0]) == (1, NORMAL)
    with pytest.raises(RangeError, match="another topic"):
        await run("redeliver", first=id_, topic="notifications.bulk")


async def test_bad_ranges_say_what_there_is(floor: Floor, run: Do) -> None:
    await floor.write(floor.notification("u1"))
    for fields, message in (
        ({"first": "0:99"}, "offset 99 of partition 0 is not there: notifications.normal ends at"),
        ({"first": "9:0"}, "notifications.normal has no partition 9; it has 0 to 3"),
        ({"first": "yesterday"}, "'yesterday' is no bound of a range"),
        ({"first": "2026-01-01T00:00:00"}, "needs a zone"),
    ):
        with pytest.raises(RangeError, match=message):
            await run("redeliver", topic=NORMAL, **fields)


@pytest.mark.parametrize("fatal", [1, 2, 3])
async def test_a_crash_between_a_page_and_its_note_repeats_under_the_same_ids(
    floor: Floor, run: Do, fatal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    emits = [floor.notification(f"u{i % 4}", id=f"i{i}") for i in range(900)]
    await floor.write(*emits)
    await floor.work_off()
    notes = 0
    note = Book.note

    async def dying(self: Book, state: Run) -> None:
        nonlocal notes
        notes += 1
        if notes > fatal:
            raise asyncio.IncompleteReadError(b"", 1)  # the fault: the process dies here
        await note(self, state)

    monkeypatch.setattr(Book, "note", dying)
    await crash(run("redeliver", topic=NORMAL, run="mine", yes=True))
    monkeypatch.setattr(Book, "note", note)
    await run("redeliver", run="mine", yes=True)
    await floor.work_off()
    for user in range(4):
        rows = await floor.rows(f"u{user}")
        own = [f"i{i}" for i in range(900) if i % 4 == user]
        assert [row.key for row in rows] == own + [f"replay:mine:{key}" for key in own]


async def test_a_crash_repeats_nothing_even_if_much_else_came_before_it_goes_on(
    floor: Floor, run: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    await floor.write(*(floor.notification("u1", id=f"i{i}") for i in range(250)))
    await floor.work_off()
    note = Book.note
    states: list[Run] = []

    async def dying(self: Book, state: Run) -> None:
        states.append(state)
        if len(states) == 2:
            raise asyncio.IncompleteReadError(b"", 1)  # the fault: the process dies here
        await note(self, state)

    monkeypatch.setattr(Book, "note", dying)
    await crash(run("redeliver", topic=NORMAL, run="mine", yes=True))
    monkeypatch.setattr(Book, "note", note)
    await floor.write(*(floor.notification("u1", id=f"later{i}") for i in range(300)))
    await run("redeliver", run="mine", yes=True)
    await floor.work_off()
    keys = [row.key for row in await floor.rows("u1")]
    assert len(keys) == len(set(keys)) == 250 + 300 + 250


async def test_a_limit_ends_a_run_for_good(floor: Floor, run: Do) -> None:
    await floor.write(*(floor.notification("u1", id=f"i{i}") for i in range(30)))
    await floor.work_off()
    done = await run("redeliver", topic=NORMAL, limit=7, run="seven", yes=True)
    assert (done["event"], done["counts"]) == ("finished", {"taken": 7})
    await run("redeliver", run="seven", yes=True)
    assert len(await floor.values()) == 37


async def test_a_run_that_another_machine_is_at_is_refused(
    floor: Floor, run: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    await floor.write(floor.notification("u1"))
    await floor.work_off()

    async def gone(self: Book, state: Run) -> None:
        raise asyncio.IncompleteReadError(b"", 1)

    note = Book.note

    async def foreign(self: Book, state: Run) -> None:
        await note(self, msgspec.structs.replace(state, who="ops@elsewhere"))
        raise asyncio.IncompleteReadError(b"", 1)

    monkeypatch.setattr(Book, "note", foreign)
    await crash(run("redeliver", topic=NORMAL, run="mine", yes=True))
    monkeypatch.setattr(Book, "note", note)
    with pytest.raises(ReplayError, match="the run mine is at work: ops@elsewhere"):
        await run("redeliver", run="mine", yes=True)


async def test_a_rate_slows_it_down(floor: Floor, run: Do) -> None:
    await floor.write(*(floor.notification("u1", id=f"i{i}") for i in range(30)))
    await floor.work_off()
    done = await run("redeliver", topic=NORMAL, rate=20, yes=True)
    assert done["seconds"] >= 1.0
