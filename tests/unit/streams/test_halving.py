"""How the refused ones are found among many: order, idempotence, and how many tries it takes."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import StoreAway, StoreRefused
from streams.halving import halves, spared


@given(st.lists(st.integers(), min_size=2))
def test_halves_are_the_whole_in_order_and_none_is_empty(items: list[int]) -> None:
    first, second = halves(items)
    assert [*first, *second] == items
    assert first
    assert second
    assert 0 <= len(first) - len(second) <= 1


@given(st.integers(0, 600), st.sets(st.integers(0, 599), max_size=8))
def test_each_item_is_done_once_or_refused_once(count: int, bad: set[int]) -> None:
    done: list[int] = []
    left_out: list[int] = []
    tries = 0

    async def work(part: Sequence[int]) -> None:
        nonlocal tries
        tries += 1
        if bad.intersection(part):
            raise StoreRefused("one of them")
        done.extend(part)

    asyncio.run(spared(range(count), work, lambda one, _: left_out.append(one)))
    found = {one for one in bad if one < count}
    assert left_out == sorted(found)
    assert done == [one for one in range(count) if one not in found]
    assert tries <= 1 + len(found) * 2 * (count.bit_length() + 1)


async def test_a_server_that_is_away_is_no_refusal() -> None:
    async def work(_: Sequence[int]) -> None:
        raise StoreAway("away")

    def refused(_: int, __: Exception) -> None:
        raise AssertionError

    with pytest.raises(StoreAway):
        await spared([1, 2], work, refused)
