"""Two former owners that were frozen at their appends, on real stores: what a later owner has acked stays as it is."""

import asyncio

import pytest

from cli.replay.rebuild import Rebuild
from cli.replay.steps import Taken
from schemas.ids import source_parts
from schemas.replays import Asked
from store.port import Range, Row, Store
from streams.limits import Limit
from streams.replay import LeftOut, Source
from tests.contract.owners import Owner, messages

ONE_SHOWN = Limit(1, 3_600_000_000)  # an owner with other settings: it drops all records of a batch but the first


async def rows(store: Store, user: str) -> list[Row]:
    return (await store.read([Range(f"inbox/normal/{user}", 1, 1 << 20)]))[0]


async def owner(store: Store, stream: str, limit: Limit | None = None) -> Owner:
    return Owner(store, await store.claim(stream, 0, "w"), limit)


@pytest.mark.parametrize("before", [0, 5, 4_093], ids=lambda n: f"{n} before")
@pytest.mark.parametrize("limit", [None, ONE_SHOWN], ids=["same settings", "other settings"])
@pytest.mark.parametrize("late", [3, 300])
async def test_the_late_append_of_a_second_former_owner_changes_nothing_that_was_acked(
    store: Store, second: Store, name: str, before: int, limit: Limit | None, late: int
) -> None:
    await (await owner(store, name)).handle(messages(name, 1, before))
    last = before + late
    a = await owner(store, name)
    await a.freeze(messages(name, before + 1, last))
    b = await owner(second, name, limit)
    await b.freeze(messages(name, before + 1, before + 2))
    c = await owner(store, name)
    await a.thaw()
    await c.handle(messages(name, before + 1, last))  # known, all of them: acked, committed
    acked = await rows(store, name)
    assert [source_parts(row.src)[1] for row in acked] == list(range(1, last + 1))
    await b.thaw()
    assert await rows(store, name) == acked
    assert (await store.heads([f"inbox/normal/{name}"]))[f"inbox/normal/{name}"].seq == last
    await (await owner(second, name)).handle(messages(name, last + 1, last + 1))
    assert await rows(store, name) == [*acked, (await rows(store, name))[last]]


async def test_what_is_known_may_come_in_several_batches(store: Store, second: Store, name: str) -> None:
    await (await owner(store, name)).handle(messages(name, 1, 2))
    a, b = await owner(store, name), await owner(second, name)
    await a.freeze(messages(name, 3, 8))
    await b.freeze(messages(name, 3, 4))
    c = await owner(store, name)
    await a.thaw()
    await c.handle(messages(name, 3, 3))
    await b.thaw()
    for offset in range(4, 9):
        await c.handle(messages(name, offset, offset))
    assert [source_parts(row.src)[1] for row in await rows(store, name)] == list(range(1, 9))


async def test_a_record_without_a_row_fences_the_rows_after_it(store: Store, second: Store, name: str) -> None:
    """The first record that the new owner knows made no row: the head is its own all the same."""
    gone = messages(name, 1, 1, expires_at="1990-01-01T00:00:00Z")
    a, b = await owner(store, name), await owner(second, name)
    await a.freeze([*gone, *messages(name, 2, 4)])
    await b.freeze([*gone, *messages(name, 2, 2)])
    c = await owner(store, name)
    await a.thaw()
    await c.handle(gone)
    await c.handle(messages(name, 2, 4))
    await b.thaw()
    assert len(await rows(store, name)) == 3


async def test_an_append_that_lands_while_the_rows_are_read_is_noticed(
    store: Store, second: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one's append comes between the new owner's look at the head and its look at the rows."""
    a, b = await owner(store, name), await owner(second, name, ONE_SHOWN)
    await a.freeze(messages(name, 1, 6))
    await b.freeze(messages(name, 1, 2))
    c = await owner(store, name)
    await a.thaw()
    heads = store.heads

    async def then_it_lands(logs: list[str], *args: int) -> object:
        found = await heads(logs, *args)
        if not b.store.gate.is_set():
            await b.thaw()
        return found

    monkeypatch.setattr(store, "heads", then_it_lands)
    await c.handle(messages(name, 1, 6))
    found = await rows(store, name)
    assert [source_parts(row.src)[1] for row in found] == list(range(1, 7))
    assert [row.skip for row in found[:2]] == ["", "rate_limited"]  # they are what was there when they were judged


async def test_a_rebuild_makes_its_own_what_is_there_already(store: Store, second: Store, name: str) -> None:
    a, b = await owner(store, name), await owner(second, name)
    await a.freeze(messages(name, 1, 6))
    await b.freeze(messages(name, 1, 2))
    epoch = await store.claim(name, 0, "rebuild")
    await a.thaw()
    asked = Asked(operation="rebuild", spans=[])
    rebuild = Rebuild(asked, Source("t", 2, 1, 1), "normal", store, limit=None, epochs={0: epoch})
    page = messages(name, 1, 8)
    for message in page:
        message.timestamp = round(message.timestamp * 1000)  # as a consumer without a group has it
    judged = await rebuild.judge(page)
    await rebuild.perform([one for one in judged if isinstance(one, Taken)])
    assert [type(one) for one in judged] == [LeftOut] * 6 + [Taken] * 2
    before = await rows(store, name)
    await b.thaw()
    assert await rows(store, name) == before
    assert len(before) == 8


async def test_many_logs_change_hands_at_once(store: Store, second: Store, name: str) -> None:
    users = [f"{name}-{number}" for number in range(60)]
    a, b, c = await owner(store, name), await owner(second, name), await owner(store, name)
    await a.freeze([message for user in users for message in messages(user, 1, 3)])
    await b.freeze([message for user in users for message in messages(user, 1, 1)])
    await a.thaw()
    await c.handle([message for user in users for message in messages(user, 1, 3)])
    await b.thaw()
    found = await asyncio.gather(*(rows(store, user) for user in users))
    assert [len(each) for each in found] == [3] * 60
