"""What both stores promise, shown on real ones."""

import asyncio
from typing import Any

import msgspec
import pytest

from schemas.errors import StoreBehind, StoreError, StoreRefused
from schemas.limits import FRAME_ROOM, MAX_ID, MAX_USER, MAX_VALUE
from store.port import MOST_CURSORS, RECENT, Append, Cursor, Device, Head, Range, Rewrite, Row, Standing, Store
from store.urls import migrations, open_store
from tests.contract.samples import entries, opened, row


async def read(store: Store, log: str, first: int, last: int) -> list[Row]:
    return (await store.read([Range(log, first, last)]))[0]


async def head(store: Store, log: str) -> Head:
    return (await store.heads([log]))[log]


# --- logs


async def test_what_was_appended_is_read_in_order(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 3))
    await store.append(entries(name, 1, 4, 5))
    assert await read(store, name, 1, 5) == [row(seq) for seq in range(1, 6)]


async def test_every_column_comes_back_as_it_was(store: Store, name: str) -> None:
    odd = Row(1, (1 << 62) + 5, 0, "schlüssel", b"\0\xff" * 4, 1, 9_999_999_999_999, "gerät", b'{"x":"\xc3\xa4"}')
    await store.append([Append(name, 7, [odd])])
    assert await read(store, name, 1, 1) == [odd]
    assert await head(store, name) == Head(1, odd.src, 0, (odd.mark(),))


async def test_the_largest_rows_that_there_can_be_are_kept(store: Store, name: str) -> None:
    user, size = "😀" * MAX_USER, MAX_VALUE + FRAME_ROOM
    largest = [
        Row(seq, seq, seq, "😀" * MAX_ID, bytes(8), 1, 0, "d" * 64, b"\x01" * size, "", 1) for seq in range(1, 101)
    ]
    logs = [f"{name}/{number}/{user}" for number in range(20)]
    await store.append([Append(logs[0], 1, largest), *(Append(log, 1, largest[:3]) for log in logs[1:])])
    assert await read(store, logs[0], 1, 100) == largest
    assert (await store.read([Range(log, 1, 3) for log in logs[1:]])) == [largest[:3]] * 19


async def test_an_unknown_log_has_an_empty_head_and_no_rows(store: Store, name: str) -> None:
    assert await store.heads([name]) == {name: Head()}
    assert await store.read([Range(name, 1, 10)]) == [[]]


async def test_nothing_asked_is_nothing_answered(store: Store) -> None:
    await store.append([])
    await store.put_cursors([])
    assert await store.heads([]) == {}
    assert await store.read([]) == []
    assert await store.get_cursors([]) == {}


async def test_a_range_may_lie_outside_the_log_or_be_empty(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 3))
    ranges = [Range(name, 0, 1), Range(name, 3, 99_999), Range(name, 4, 9), Range(name, 3, 2)]
    assert await store.read(ranges) == [[row(1)], [row(3)], [], []]


async def test_many_logs_are_written_and_read_in_one_call(store: Store, name: str) -> None:
    logs = [f"{name}/{number}" for number in range(150)]
    await store.append([append for log in logs for append in entries(log, 1, 1, 2)])
    heads = await store.heads(logs)
    assert [heads[log].seq for log in logs] == [2] * 150
    assert await store.read([Range(log, 1, 2) for log in logs]) == [[row(1), row(2)]] * 150


async def test_repeating_an_append_changes_nothing(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 4))
    before = await head(store, name)
    await store.append(entries(name, 1, 1, 4))
    await store.append(entries(name, 1, 2, 3))
    assert await head(store, name) == before
    assert await read(store, name, 1, 9) == [row(seq) for seq in range(1, 5)]


async def test_two_appends_for_one_log_in_one_call(store: Store, name: str) -> None:
    await store.append([*entries(name, 1, 1, 50), *entries(name, 1, 51, 120)])
    assert [entry.seq for entry in await read(store, name, 1, 200)] == list(range(1, 121))


async def test_the_head_brings_the_marks_of_the_last_rows(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, RECENT + 44))
    last = [row(seq).mark() for seq in range(RECENT + 44, 44, -1)]
    assert await head(store, name) == row(RECENT + 44).head(tuple(last))
    assert (await store.heads([name], recent=3))[name].recent == tuple(last[:3])
    assert (await store.heads([name], recent=0))[name].recent == ()


@pytest.mark.parametrize("last", [4094, 4095, 4096, 4097, 4400])
async def test_a_log_goes_on_over_the_border_of_a_bucket(store: Store, name: str, last: int) -> None:
    await store.append(entries(name, 1, 3_800, last))
    found = await head(store, name)
    assert (found.seq, len(found.recent)) == (last, RECENT)
    assert [entry.seq for entry in found.recent] == list(range(last, last - RECENT, -1))
    assert [entry.seq for entry in await read(store, name, 4_000, 9_999)] == list(range(4_000, last + 1))


async def test_a_log_goes_on_into_the_third_bucket(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 8_191, size=10))
    assert (await head(store, name)).seq == 8_191
    for last in (8_192, 8_193):
        await store.append(entries(name, 1, last, last, size=10))
        assert (await head(store, name)).seq == last
    rows = await read(store, name, 1, 8_193)
    assert [entry.seq for entry in rows] == list(range(1, 8_194))


async def test_large_frames_are_kept(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 30, size=64 * 1024))
    assert await read(store, name, 1, 30) == [row(seq, size=64 * 1024) for seq in range(1, 31)]


async def test_a_row_that_cannot_be_stored_fails_alone(store: Store, name: str) -> None:
    too_big, no_text = row(1 << 63), Row(1, 1, 1, "\ud800", b"", 1, 0, "", b"")
    results = await asyncio.gather(
        *(store.append(entries(f"{name}/{number}", 1, 1, 1)) for number in range(10)),
        store.append([Append(f"{name}/big", 1, [too_big])]),
        store.append([Append(f"{name}/text", 1, [no_text])]),
        return_exceptions=True,
    )
    assert results[:10] == [None] * 10
    assert [type(result) for result in results[10:]] == [StoreRefused, StoreRefused]
    heads = await store.heads([f"{name}/{number}" for number in range(10)])
    assert {found.seq for found in heads.values()} == {1}
    assert await head(store, f"{name}/big") == Head()


async def test_a_name_that_is_no_text_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.heads(["\ud800"])
    with pytest.raises(StoreError):
        await store.read([Range("\ud800", 1, 1)])


async def test_expiries_are_those_of_countable_entries_up_to_the_head(store: Store, name: str) -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"expires": 5},
        {"expires": 6, "device": "d"},
        {"expires": 7, "skip": "s"},
        {"expires": 1 << 50},
    ]
    plain = [Row(seq, seq, seq, "", b"", 1, 0, "", b"{}") for seq in range(4_093, 4_098)]
    rows = [msgspec.structs.replace(row, **kind) for row, kind in zip(plain, kinds, strict=True)]
    await store.append([Append(name, 2, rows)])
    await store.append([Append(name, 1, [msgspec.structs.replace(plain[0], seq=4_098, expires=9)])])
    ranges = [Range(name, 1, 9_999), Range(name, 4_095, 4_096), Range(name, 4_094, 4_094), Range(f"{name}/none", 1, 9)]
    assert await store.expiries(ranges) == [[5, 1 << 50], [], [5], []]
    assert await store.expiries([]) == []


# --- owners


async def test_each_claim_has_a_higher_epoch(store: Store, second: Store, name: str) -> None:
    epochs = [await claimant.claim(name, 0, "w") for claimant in (store, second, store, second)]
    assert epochs == sorted(set(epochs))
    other = await store.claim(name, 1, "w")
    assert other > 1_600_000_000_000_000  # µs since 1970


async def test_claims_at_the_same_time_have_different_epochs(store: Store, second: Store, name: str) -> None:
    claims = [claimant.claim(name, 0, f"w{number}") for number in range(5) for claimant in (store, second)]
    epochs = await asyncio.gather(*claims)
    assert len(set(epochs)) == 10
    assert await store.claim(name, 0, "last") > max(epochs)


async def test_a_late_write_of_a_former_owner_loses(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 5))
    await store.append(entries(name, 2, 6, 6, by="new"))
    await store.append(entries(name, 1, 6, 6, by="former"))
    assert (await read(store, name, 6, 6)) == [row(6, by="new")]


async def test_rows_of_a_former_owner_above_the_head_are_invisible_and_give_way(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 5))
    await store.append(entries(name, 2, 6, 6, by="new"))
    await store.append(entries(name, 1, 6, 9, by="former"))
    found = await head(store, name)
    assert (found.seq, found.recent[0]) == (6, row(6).mark())
    assert [entry.seq for entry in await read(store, name, 1, 99)] == [1, 2, 3, 4, 5, 6]
    await store.append(entries(name, 2, 7, 7, by="new"))
    assert await read(store, name, 6, 99) == [row(6, by="new"), row(7, by="new")]


async def test_what_a_former_owner_wrote_first_is_set_back_by_the_new_one(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 9, by="former"))
    await store.append(entries(name, 2, 6, 6, by="new"))
    assert (await head(store, name)).seq == 6
    assert await read(store, name, 5, 99) == [row(5, by="former"), row(6, by="new")]


async def test_a_bucket_that_a_former_owner_began_is_invisible_and_gives_way(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 4_090, 4_094))
    await store.append(entries(name, 2, 4_095, 4_095, by="new"))
    await store.append(entries(name, 1, 4_095, 4_098, by="former"))
    assert (await head(store, name)).seq == 4_095
    assert [entry.seq for entry in await read(store, name, 4_090, 5_000)] == list(range(4_090, 4_096))
    assert await read(store, name, 4_096, 5_000) == []
    await store.append(entries(name, 2, 4_096, 4_096, by="new"))
    assert (await head(store, name)).seq == 4_096
    assert await read(store, name, 4_095, 5_000) == [row(4_095, by="new"), row(4_096, by="new")]


async def test_what_is_written_again_is_the_same_and_safe_from_former_owners(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 5, by="first"))
    before = await read(store, name, 1, 9)
    await store.rewrite([Rewrite(name, 3, 4, 9)])
    assert await read(store, name, 1, 9) == before
    await store.append(entries(name, 2, 4, 4, by="second"))
    await store.append(entries(name, 2, 7, 9, by="second"))
    assert await read(store, name, 1, 9) == before
    await store.append(entries(name, 3, 6, 6, by="third"))
    assert await read(store, name, 4, 9) == [*before[3:], row(6, by="third")]


async def test_rows_that_are_not_written_again_are_open_to_former_owners(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 5, by="first"))
    await store.rewrite([Rewrite(name, 3, 4, 5)])
    await store.append(entries(name, 2, 2, 2, by="second"))
    assert await read(store, name, 1, 3) == [row(1, by="first"), row(2, by="second"), row(3, by="first")]


async def test_to_write_again_under_a_lower_epoch_has_no_effect(store: Store, name: str) -> None:
    await store.append(entries(name, 1, 1, 3, by="first"))
    await store.append(entries(name, 3, 2, 2, by="third"))
    await store.rewrite([Rewrite(name, 2, 1, 9)])
    assert (await head(store, name)).seq == 2
    await store.append(entries(name, 3, 3, 3, by="third"))
    assert await read(store, name, 1, 9) == [row(1, by="first"), row(2, by="third"), row(3, by="third")]


async def test_there_may_be_nothing_to_write_again(store: Store, name: str) -> None:
    await store.append(entries(f"{name}/a", 1, 1, 3))
    await store.rewrite([])
    await store.rewrite([Rewrite(name, 2, 1, 9), Rewrite(f"{name}/a", 2, 5, 9)])
    assert await head(store, name) == Head()
    assert (await head(store, f"{name}/a")).seq == 3


@pytest.mark.parametrize("last", [4_095, 4_096, 4_400, 8_200])
async def test_heads_of_all_buckets_are_written_again(store: Store, name: str, last: int) -> None:
    await store.append(entries(name, 1, 4_000, last, size=10))
    await store.rewrite([Rewrite(name, 3, 4_090, 4_091)])
    for seq in (4_090, 4_097, 8_194):  # a former owner begins within each bucket
        if seq <= last:
            await store.append(entries(name, 2, seq, seq, size=10))
    assert (await head(store, name)).seq == last
    assert [entry.seq for entry in await read(store, name, 4_000, 9_999)] == list(range(4_000, last + 1))


# --- cursors and the rest


async def test_cursors_merge_by_max_in_any_order(store: Store, second: Store, name: str) -> None:
    puts = [(5, 1), (3, 4), (9, 2), (0, 0), (7, 3)]
    cursors = [Cursor(name, "inbox/normal", "phone", delivered, seen) for delivered, seen in puts]
    await asyncio.gather(*(which.put_cursors([cursor]) for cursor in cursors for which in (store, second)))
    assert await store.get_cursors([name]) == {name: [Cursor(name, "inbox/normal", "phone", 9, 4)]}
    await store.put_cursors([cursors[1], cursors[0]])
    assert await second.get_cursors([name]) == {name: [Cursor(name, "inbox/normal", "phone", 9, 4)]}


async def test_a_cursor_that_cannot_be_stored_is_refused(store: Store, name: str) -> None:
    for bad in (Cursor(name, "l", "d", 1 << 63, 0), Cursor(name, "l", "\ud800", 1, 0)):
        with pytest.raises(StoreError):
            await store.put_cursors([bad])
    with pytest.raises(StoreError):
        await store.get_cursors(["\ud800"])


async def test_one_cursor_twice_in_one_call(store: Store, name: str) -> None:
    await store.put_cursors([Cursor(name, "l", "d", 2, 1), Cursor(name, "l", "d", 1, 2)])
    assert await store.get_cursors([name]) == {name: [Cursor(name, "l", "d", 2, 2)]}


async def test_a_cursor_at_zero_is_known(store: Store, name: str) -> None:
    await store.put_cursors([Cursor(name, "l", "d", 0, 0)])
    assert await store.get_cursors([name]) == {name: [Cursor(name, "l", "d", 0, 0)]}


async def test_cursors_come_by_user_log_and_device(store: Store, name: str) -> None:
    cursors = [Cursor(f"{name}/{user}", log, device, 2, 1) for user in "ab" for log in "lm" for device in "xyz"]
    await store.put_cursors(list(reversed(cursors)))
    users = [f"{name}/a", f"{name}/b", f"{name}/nobody"]
    assert await store.get_cursors(users) == {users[0]: cursors[:6], users[1]: cursors[6:], users[2]: []}


async def test_a_user_with_many_devices_is_read_within_bounds(store: Store, name: str) -> None:
    cursors = [Cursor(name, "l", f"{device:05}", device, 0) for device in range(6_000)]
    await store.put_cursors([Cursor(name, "l", "", 5_999, 7), *cursors])
    found = (await store.get_cursors([name]))[name]
    assert found[1:] == cursors[: MOST_CURSORS - 1]
    whole = Cursor(name, "l", "", 5_999, 7)
    assert found[0] == whole
    standings = await store.standings([(name, "04321"), (name, "new"), (name, "")], "lm")
    assert [standing.cursors for standing in standings] == [[whole, cursors[4_321]], [whole], [whole]]


async def test_what_is_known_of_a_device_comes_with_its_cursors(store: Store, name: str) -> None:
    phone, web = Device(name, "phone", 17, {"l": 3, "m": 0}), Device(name, "web", 18, {})
    assert await store.standings([(name, "phone")], "lm") == [Standing(None, [])]
    await store.put_devices([phone, web])
    await store.put_cursors([Cursor(name, log, "phone", 4, 1) for log in "lm"])
    cursors = [Cursor(name, log, "phone", 4, 1) for log in "lm"]
    assert await store.standings([(name, "web"), (name, "phone")], "lm") == [
        Standing(web, []),
        Standing(phone, cursors),
    ]
    later = Device(name, "phone", 20, {"l": 3})
    await store.put_devices([later])
    assert await store.standings([(name, "phone")], "lm") == [Standing(later, cursors)]
    assert await store.seen_devices(name, 9) == {"phone": 20, "web": 18}
    assert len(await store.seen_devices(name, 1)) == 1
    assert await store.seen_devices(f"{name}/other", 9) == {}
    assert await store.standings([], "lm") == []
    await store.put_devices([])


async def test_a_device_that_was_forgotten_comes_back_as_a_new_one(store: Store, name: str) -> None:
    for turn in range(1, 4):
        again = Device(name, "phone", turn, {"l": 5})
        await store.put_devices([again, Device(name, "web", 1, {})])
        await store.put_cursors([Cursor(name, "l", "phone", 5, 5), Cursor(name, "l", "web", 2, 2)])
        await store.forget_devices(name, ["phone", "never was"], "lm")
        assert await store.standings([(name, "phone")], "lm") == [Standing(None, [])]
        assert (await store.standings([(name, "web")], "lm"))[0].cursors == [Cursor(name, "l", "web", 2, 2)]
        await store.put_devices([again])
        assert (await store.standings([(name, "phone")], "lm"))[0].device == again
        await store.put_cursors([Cursor(name, "l", "phone", 6 + turn, 0)])
        assert (await store.standings([(name, "phone")], "lm"))[0].cursors[0].delivered == 6 + turn
        await store.forget_devices(name, ["phone"], "lm")
    await store.forget_devices(name, [], "lm")


async def test_an_incarnation_only_grows(store: Store, second: Store, name: str) -> None:
    for which, incarnation in ((store, 2), (second, 3), (store, 1)):
        await which.put_incarnation(name, incarnation)
    assert (await store.incarnations())[name] == 3
    assert (await second.incarnations())[name] == 3


async def test_two_openings_see_each_other(store: Store, second: Store, name: str) -> None:
    assert await second.heads([name]) == {name: Head()}
    await store.append(entries(name, 1, 1, 2))
    assert await read(second, name, 1, 9) == [row(1), row(2)]
    await second.append(entries(name, 1, 3, 3))
    assert (await head(store, name)).seq == 3


# --- life of a store


async def test_a_store_has_one_identity_for_its_life(store: Store, url: str, new_url: str) -> None:
    epoch = await store.epoch()
    assert len(epoch) == 32
    async with opened(url) as again:
        assert await again.epoch() == epoch
    async with opened(new_url) as other:
        assert await other.epoch() != epoch


async def test_a_new_epoch_is_another_identity_and_voids_all_cursors(new_url: str) -> None:
    async with opened(new_url) as store:
        before = await store.epoch()
        await store.append(entries("l/u", 1, 1, 3))
        await store.put_cursors([Cursor("u", "l", "d", 3, 2)])
        await store.put_devices([Device("u", "d", 1, {"l": 1})])
        epoch = await store.new_epoch()
        assert epoch != before
        assert len(epoch) == 32
        assert await store.epoch() == epoch
        assert await store.get_cursors(["u"]) == {"u": []}
        assert await store.standings([("u", "d")], "lm") == [Standing(None, [])]
        assert (await head(store, "l/u")).seq == 3
        await store.put_cursors([Cursor("u", "l", "d", 1, 1)])
    async with opened(new_url) as again:
        assert await again.epoch() == epoch
        assert await again.get_cursors(["u"]) == {"u": [Cursor("u", "l", "d", 1, 1)]}


async def test_a_store_that_was_not_migrated_does_not_open(new_url: str) -> None:
    with pytest.raises(StoreBehind, match=r"0001_logs, .*: run `tocsin store apply`"):
        await open_store(new_url).open()
    assert (await migrations(new_url).pending())[0] == "0001_logs"  # to look made nothing


async def test_migrations_are_applied_once(new_url: str) -> None:
    port = migrations(new_url)
    names = await port.pending()
    assert await port.apply() == names
    assert await port.apply() == []
    assert await port.pending() == []


async def test_migrations_may_be_applied_by_several_at_the_same_time(new_url: str) -> None:
    names = await migrations(new_url).pending()
    applied = await asyncio.gather(*(migrations(new_url).apply() for _ in range(4)))
    assert sorted(applied) == [[], [], [], names]
    async with opened(new_url) as store:
        assert await store.epoch()


async def test_what_was_acknowledged_is_there_after_a_close(url: str, name: str) -> None:
    async with opened(url) as store:
        await store.append(entries(name, 1, 1, 10))
        await store.put_cursors([Cursor(name, "l", "d", 10, 9)])
    async with opened(url) as store:
        assert (await head(store, name)).seq == 10
        assert await store.get_cursors([name]) == {name: [Cursor(name, "l", "d", 10, 9)]}


async def test_a_cancelled_call_harms_nobody(store: Store, name: str) -> None:
    calls = [asyncio.create_task(store.append(entries(f"{name}/{number}", 1, 1, 5))) for number in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[1::2] == [None] * 10
    heads = await store.heads([f"{name}/{number}" for number in range(1, 20, 2)])
    assert {found.seq for found in heads.values()} == {5}
