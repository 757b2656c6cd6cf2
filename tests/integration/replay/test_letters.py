"""`tocsin dlq` and `tocsin replay redrive` on a real Kafka."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from cli.kafka import admin
from cli.replay.letters import list_letters, show_letters
from schemas.ids import position_id
from streams.producer import Emit
from streams.replay_range import RangeError
from tests.integration.replay.conftest import Floor

Do = Callable[..., Awaitable[dict[str, Any]]]


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


async def listed(floor: Floor, capsys: pytest.CaptureFixture[str], **filters: Any) -> list[tuple[str, str, int]]:
    capsys.readouterr()
    chosen = {"reasons": [], "topics": [], "users": [], "everything": False, **filters}
    assert await list_letters(floor.settings, **chosen, as_json=True) == 0
    return sorted((one["reason"], one["topic"], one["count"]) for one in printed(capsys))


@pytest.fixture
async def letters(floor: Floor) -> Floor:
    """Three letters of two users: two without an id of their own."""
    await floor.write(floor.notification("u1"), floor.notification("u1", id="own"), floor.notification("u1"))
    await floor.refuse("rule_failed", "rule_failed", "conflict")
    return floor


async def test_letters_are_counted_by_reason_and_topic(letters: Floor, capsys: pytest.CaptureFixture[str]) -> None:
    both = [("conflict", "notifications.normal", 1), ("rule_failed", "notifications.normal", 2)]
    assert await listed(letters, capsys) == both
    assert await listed(letters, capsys, reasons=["conflict"]) == both[:1]
    assert await listed(letters, capsys, topics=["notifications.bulk"]) == []
    assert await listed(letters, capsys, users=["u1"]) == both
    assert await listed(letters, capsys, users=["u2"]) == []


async def test_a_letter_goes_back_untouched_under_the_id_that_it_had(letters: Floor, run: Do) -> None:
    done = await run("redrive", reasons=["rule_failed"], yes=True)
    assert done["counts"] == {"taken": 2}
    records = await letters.records("notifications.normal")
    first, own, _, again, own_again = records
    assert (again.key, again.value, again.partition) == (first.key, first.value, first.partition)
    assert again.headers == (("tocsin-id", position_id(first.timestamp, 2, first.partition, first.offset).encode()),)
    assert own_again.value == own.value


async def test_what_was_redriven_is_settled(letters: Floor, run: Do, capsys: pytest.CaptureFixture[str]) -> None:
    await run("redrive", reasons=["rule_failed"], yes=True)
    assert await listed(letters, capsys) == [("conflict", "notifications.normal", 1)]
    assert len(await listed(letters, capsys, everything=True)) == 2
    shown = await run("redrive")
    assert (shown["taken"], shown["left_out"]) == (1, {"settled": 2})


async def test_a_second_redrive_of_a_letter_is_recognised(letters: Floor, run: Do) -> None:
    await run("redrive", reasons=["rule_failed"], yes=True, run="one")
    await run("redrive", reasons=["rule_failed"], yes=True, run="two", settled=True)
    assert len(await letters.records("notifications.normal")) == 7
    fresh = letters.with_store(letters.settings.store)
    await fresh.work_off()
    keys = [row.key for row in await letters.rows("u1")]
    assert len(keys) == 4  # the three first ones, which only the test calls dead, and one under its former id
    assert keys.count("own") == 1


async def test_a_letter_from_a_topic_that_is_no_more_is_left_out(floor: Floor, run: Do) -> None:
    await floor.write(floor.notification("u1"))
    record = (await floor.records("notifications.normal"))[0]
    await floor.refuse("rule_failed")
    letter = (await floor.records("dead-letters"))[0]
    headers = tuple((n, b"gone" if n == "tocsin-topic" else v) for n, v in letter.headers)
    await floor.write(
        Emit(floor.settings.prefix + "dead-letters", record.key, record.value, headers),
        Emit(floor.settings.prefix + "dead-letters", record.key, record.value),
    )
    shown = await run("redrive")
    assert (shown["taken"], shown["left_out"]) == (1, {"unknown_topic": 1, "not_a_letter": 1})
    unknown, none = (await floor.records("dead-letters"))[1:]
    named = [
        {"at": f"{unknown.partition}:{unknown.offset}", "reason": "unknown_topic: it came from gone"},
        {"at": f"{none.partition}:{none.offset}", "reason": "not_a_letter"},
    ]
    assert shown["unsendable"] == named
    done = await run("redrive", yes=True)
    assert (done["counts"], done["unsendable"]) == ({"taken": 1, "unknown_topic": 1, "not_a_letter": 1}, named)


async def test_a_letter_that_kafka_refuses_is_named_and_the_others_go_back(floor: Floor, run: Do) -> None:
    await floor.write(*(floor.notification("u1", id=f"i{i}", body="x" * (20_000 if i == 3 else 10)) for i in range(7)))
    await floor.refuse(*["rule_failed"] * 7)
    topic = floor.settings.prefix + "notifications.normal"
    async with admin(floor.settings.kafka_options()) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "10000"})])
    done = await run("redrive", yes=True)
    letter = next(r for r in await floor.records("dead-letters") if b"i3" in r.value)
    (named,) = done["unsendable"]
    assert named["at"] == f"{letter.partition}:{letter.offset}"
    assert named["reason"].startswith(f"refused: {topic}: ")
    assert done["counts"] == {"refused": 1, "taken": 6}
    ids = {one["id"] for one in (await floor.values())[7:]}
    assert ids == {f"i{i}" for i in range(7) if i != 3}
    again = await run("redrive", run="again")  # what could not go back is not settled
    assert again["taken"] == 1


async def test_dropped_letters_are_left_out_but_stay(
    letters: Floor, run: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await run("drop", reasons=["conflict"]))["taken"] == 1
    assert len(await listed(letters, capsys)) == 2
    await run("drop", reasons=["conflict"], yes=True)
    assert await listed(letters, capsys) == [("rule_failed", "notifications.normal", 2)]
    assert len(await letters.records("dead-letters")) == 3
    assert (await run("redrive"))["left_out"] == {"settled": 1}


async def test_letters_are_shown_with_their_values_only_on_request(
    letters: Floor, capsys: pytest.CaptureFixture[str]
) -> None:
    letter = (await letters.records("dead-letters"))[0]
    place = f"{letter.partition}:{letter.offset}"
    chosen: dict[str, Any] = {"reasons": [], "topics": [], "users": [], "everything": False, "limit": 10}

    async def show(*at: str, **options: Any) -> list[dict[str, Any]]:
        capsys.readouterr()
        await show_letters(letters.settings, at, **{**chosen, "with_value": False, **options}, as_json=True)
        return printed(capsys)

    (shown,) = await show(place)
    assert shown["headers"]["tocsin-reason"] == "rule_failed"
    assert (shown["value"], shown["bytes"]) == (None, len(letter.value))
    (shown,) = await show(place, with_value=True)
    assert json.loads(shown["value"]) == {"user": "u1", "title": "t"}
    assert len(await show(reasons=["rule_failed"])) == 2
    assert len(await show(limit=1)) == 1
    with pytest.raises(RangeError, match="offset 999 of partition 0 is not there"):
        await show("0:999")
    with pytest.raises(RangeError, match="'17' is not the place of a letter"):
        await show("17")
