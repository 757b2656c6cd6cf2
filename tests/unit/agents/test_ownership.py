"""An epoch is held from the end of the claim to the release, and a claim that comes too late counts for nothing."""

import asyncio
from typing import Any, cast

import pytest

from agents.ownership import Ownership
from schemas.errors import StoreBroken, StoreError


class Store:
    """Counts epochs up; waits for `open_` first, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.epoch = 0
        self.owners: list[tuple[str, int, str]] = []
        self.failures = 0
        self.asked = asyncio.Event()
        self.open_ = asyncio.Event()
        self.open_.set()

    async def claim(self, stream: str, partition: int, owner: str) -> int:
        self.asked.set()
        await self.open_.wait()
        if self.failures:
            self.failures -= 1
            raise StoreError("away")
        self.epoch += 1
        self.owners.append((stream, partition, owner))
        return self.epoch


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def ownership(store: Store) -> Ownership:
    return Ownership(cast("Any", store), "inbox", "w1")


async def test_a_claim_gives_each_partition_an_epoch(store: Store, ownership: Ownership) -> None:
    assert not ownership.claimed
    await ownership.claim([3, 1, 1])
    assert await ownership.held() == {1: 1, 3: 2}
    assert store.owners == [("inbox", 1, "w1"), ("inbox", 3, "w1")]
    assert ownership.claimed


async def test_who_works_waits_for_the_claim(store: Store, ownership: Ownership) -> None:
    store.open_.clear()
    waiting = asyncio.create_task(ownership.held())
    claiming = asyncio.create_task(ownership.claim([0]))
    await store.asked.wait()
    assert not waiting.done()
    store.open_.set()
    await claiming
    assert await waiting == {0: 1}


async def test_who_works_without_a_claim_is_told_after_a_while(ownership: Ownership) -> None:
    with pytest.raises(TimeoutError):
        await ownership.held()


async def test_a_claim_is_tried_again_while_the_store_is_away(store: Store, ownership: Ownership) -> None:
    store.failures = 2
    await ownership.claim([0, 1])
    assert set(await ownership.held()) == {0, 1}


async def test_partitions_given_up_during_the_claim_are_not_held(store: Store, ownership: Ownership) -> None:
    store.open_.clear()
    claiming = asyncio.create_task(ownership.claim([0]))
    await store.asked.wait()
    ownership.release()
    store.open_.set()
    await claiming
    assert not ownership.claimed
    assert ownership.epochs == {}


async def test_a_claim_that_fails_after_the_release_ends(store: Store, ownership: Ownership) -> None:
    store.failures = 1_000
    claiming = asyncio.create_task(ownership.claim([0]))
    await store.asked.wait()
    ownership.release()
    await asyncio.wait_for(claiming, 5)
    assert not ownership.claimed


async def test_a_later_assignment_has_higher_epochs(ownership: Ownership) -> None:
    await ownership.claim([0])
    before = dict(ownership.epochs)
    ownership.release()
    assert ownership.epochs == {}
    await ownership.claim([0])
    assert ownership.epochs[0] > before[0]


async def test_a_store_that_is_broken_is_not_asked_again(
    store: Store, ownership: Ownership, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> int:
        raise StoreBroken("the file is not a database")

    monkeypatch.setattr(store, "claim", broken)
    with pytest.raises(StoreBroken):
        await ownership.claim([0])
    assert not ownership.claimed
