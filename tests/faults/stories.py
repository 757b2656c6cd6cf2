"""Short stories of faults, each chosen so that it ends badly without one protection and well with it.

A story is told to a deployment of one worker and one gateway (`test_mutations.py`), or of two workers where a zombie is
in it, with Redis behind a proxy. Nothing else is under way: the story sends all there is. Its users are its own:
`victim`, on whom the fault falls, and witnesses, by whom it is seen that everything else goes on.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Final

from store.urls import open_store
from streams.partitions import home_partition
from tests.faults.offsets import all_committed
from tests.faults.scene import NORMAL, SOON, Scene
from tests.faults.traps import Fate

WITNESSES: Final = 4
MANY: Final = 300  # records, more than all stories together have written to a partition
PARTITIONS: Final = 4

Story = Callable[[Scene], Awaitable[None]]


async def killed_before_the_append(scene: Scene) -> None:
    """kill -9 of the worker when it is about to append."""
    await _struck_at_the_append(scene, "kill")


async def an_append_that_fails(scene: Scene) -> None:
    """The store does not take an append, and takes it when it is tried again."""
    await _struck_at_the_append(scene, "fail")


async def _struck_at_the_append(scene: Scene, fate: Fate) -> None:
    await scene.shown(3)
    scene.traps.lay("append", fate)
    async with scene.run.fault(f"{fate} at the append"):
        scene.send()
        await scene.springs("append")
    await scene.seen_by_witnesses()


async def killed_while_it_appends(scene: Scene) -> None:
    """The store holds an append up for longer than it takes to commit, and then the worker is killed."""
    await scene.shown(3)
    scene.traps.lay("append", "hold")
    async with scene.run.fault("kill -9 while the store takes its time"):
        scene.send()
        await scene.springs("append")
        await asyncio.sleep(2.5)  # the fault itself: five times the pause between commits
        await scene.cluster.kill("worker-0")
    scene.traps.clear()
    await scene.seen_by_witnesses()


async def killed_before_the_cursors(scene: Scene) -> None:
    """The store holds cursors up for longer than it takes to commit, and then the worker is killed."""
    await scene.shown(3)
    scene.traps.lay("cursors", "hold")
    async with scene.run.fault("kill -9 while the store takes its time"):
        await scene.shown(1)
        await scene.springs("cursors")
        await asyncio.sleep(2.5)  # the fault itself: five times the pause between commits
        await scene.cluster.kill("worker-0")
    scene.traps.clear()
    await scene.cluster.ready("worker-0")
    await _cursors_are_stored(scene, 4, within=12.0)


async def _cursors_are_stored(scene: Scene, seq: int, within: float) -> None:
    """Raise `AssertionError` unless the store learns that the victim's devices have acknowledged up to `seq`."""
    store = open_store(scene.cluster.environment({}, direct=True)["TOCSIN_STORE"])
    await store.open()
    try:
        end = time.monotonic() + within
        stored: dict[str, int] = {}
        while stored != {"phone": seq, "web": seq}:
            if time.monotonic() > end:
                raise AssertionError(f"acknowledgements LOST: the store has {stored}, the devices said {seq}")
            await asyncio.sleep(0.1)
            stored = {c.device: c.delivered for c in (await store.get_cursors([scene.victim]))[scene.victim]}
    finally:
        await store.close()


async def a_fetch_without_its_first_record(scene: Scene) -> None:
    """The client loses the first record of a fetch, as Faust does around a rebalance."""
    await scene.shown(3)
    scene.traps.lay("fetch", "lose")
    async with scene.run.fault("a fetched record is lost"):
        scene.send()
        await scene.springs("fetch")
    scene.send()
    await scene.seen_by_witnesses()


async def a_device_comes_during_an_append(scene: Scene) -> None:
    """A device opens its session while an entry is on its way into the store."""
    await scene.shown(3)
    scene.traps.lay("append", "hold")
    async with scene.run.fault("a slow append"):
        scene.send()
        await scene.springs("append")
        coming = asyncio.create_task(scene.run.devices.join([(scene.victim, "tablet")], late=True))
        await asyncio.wait([coming], timeout=2.0)  # the fault itself; it is only welcomed where it must not be
        scene.traps.clear()
    await coming
    await scene.seen_by_witnesses()


async def the_same_id_twice(scene: Scene) -> None:
    """A producer sends a record a second time under the same id."""
    await scene.shown(3)
    for count in (4, 5):
        scene.run.load.send(scene.victim, id=f"{scene.victim}-again")
        await scene.acknowledged(count)
    await scene.shown(1)


async def a_record_in_another_partition(scene: Scene) -> None:
    """A producer with another hash writes into a partition that is not the user's."""
    await scene.shown(3)
    wrong = (home_partition(scene.victim.encode(), PARTITIONS) + 1) % PARTITIONS
    other = next(user for n in itertools.count() if home_partition((user := f"other{n}").encode(), PARTITIONS) == wrong)
    for _ in range(MANY):  # else an offset that its home has had is new there, and a topic made anew is suspected
        scene.run.load.send(other)
    await scene.acknowledged(3 + MANY)
    scene.run.load.send(scene.victim, partition=wrong)
    await scene.acknowledged(4 + MANY)
    await scene.seen_by_witnesses()


async def the_last_publish_is_lost(scene: Scene) -> None:
    """Redis loses a publish, and nothing follows it."""
    await scene.shown(3)
    async with scene.run.fault("a publish is lost"):
        await _lost(scene)


async def a_publish_is_lost_and_others_follow(scene: Scene) -> None:
    """Redis loses a publish, and what follows is for others."""
    await scene.shown(3)
    async with scene.run.fault("a publish is lost"):
        await _lost(scene)
    await scene.seen_by_witnesses()


async def a_publish_is_lost_and_the_next_entry_comes(scene: Scene) -> None:
    """Redis loses a publish, and the next is for the same log."""
    await scene.shown(3)
    async with scene.run.fault("a publish is lost"):
        await _lost(scene)
    scene.send()
    await scene.seen_by_witnesses()


async def _lost(scene: Scene) -> None:
    id_ = f"{scene.victim}-lost"
    scene.losses.lose(id_)
    scene.run.load.send(scene.victim, id=id_)
    await scene.run.wait(lambda: scene.losses.lost, "Redis has lost it", SOON)


async def an_entry_for_another_device(scene: Scene) -> None:
    """An entry for one device lies between two for all."""
    await scene.shown(3)
    scene.run.load.send(scene.victim, device="phone")
    scene.send()
    await scene.seen_by_witnesses()


async def a_page_that_ends_before_the_log(scene: Scene) -> None:
    """A device asks for a page; the log goes on behind it."""
    await scene.shown(5)
    swarm = scene.run.devices.swarm
    phone = next(device for device in swarm.devices if (device.user, device.name) == (scene.victim, "phone"))
    before = len(swarm.faults)  # entries that it has come again
    phone.say({"type": "sync", "log": NORMAL, "after": 1, "limit": 2})
    await scene.run.wait(lambda: len(swarm.faults) >= before + 2, "the page has come", SOON)
    scene.send()
    await scene.seen_by_witnesses()


async def append_of_a_zombie(scene: Scene) -> None:
    """An owner is frozen before it appends and does so after its successor."""
    cluster, traps = scene.cluster, scene.traps
    await scene.shown(3)
    traps.lay("append", "late")
    async with scene.run.fault("SIGSTOP before the append"):
        scene.send()
        await scene.springs("append")
        frozen = next(name for name in cluster.workers if cluster.pid(name) == traps.pid("append"))
        await scene.shown(4)  # by the other one, after the session timeout
        await all_committed(cluster, SOON)  # else Kafka gives it again, which would heal what comes too late
        await _thawed(scene, "append", frozen)
    await asyncio.gather(*(cluster.restart(name) for name in cluster.workers))
    await cluster.ready()
    await cluster.owned(PARTITIONS)
    scene.send()
    await scene.seen_by_witnesses()


async def _thawed(scene: Scene, effect: str, frozen: str) -> None:
    """Thaw a worker, which performs the effect that it was about to perform, and dies."""
    pid = scene.cluster.pid(frozen)
    scene.cluster.thaw(frozen)
    await scene.run.wait(lambda: scene.traps.performed(effect, pid), f"{effect} is performed after all", SOON)


async def appends_of_two_zombies(scene: Scene) -> None:
    """Two owners are frozen before they append; the later one's append, of which only a part lands, comes last."""
    cluster, traps = scene.cluster, scene.traps
    await scene.shown(3)
    async with scene.run.fault("SIGSTOP of two owners before their appends"):
        traps.lay("appends", "late")
        ids = scene.send(10)
        await scene.springs("appends")
        first = _who(scene)
        traps.lay("appends", "broken off")
        await scene.springs("appends")  # after the session timeout
        second = _who(scene)
        await _thawed(scene, "append", first)
        await scene.until_shown(ids)  # by the third owner, after another timeout
        await all_committed(cluster, SOON)
        await _thawed(scene, "append", second)
    await asyncio.gather(*(cluster.restart(name) for name in cluster.workers))
    await cluster.ready()
    await cluster.owned(PARTITIONS)
    scene.send()
    await scene.seen_by_witnesses()


def _who(scene: Scene) -> str:
    """Return the worker that came upon the trap at an append of many rows."""
    pid = scene.traps.pid("appends")
    return next(name for name in scene.cluster.workers if scene.cluster.pid(name) == pid)


async def partitions_that_come_back(scene: Scene) -> None:
    """Partitions go to a second worker, which appends, and come back to the first."""
    cluster = scene.cluster
    users = [await _user_of(scene, partition) for partition in range(PARTITIONS)]
    async with scene.run.fault("a worker leaves, comes back and leaves again"):
        await cluster.down("worker-1")
        await cluster.owned(PARTITIONS)
        await scene.shown_to(users)
        await cluster.up("worker-1")
        await cluster.ready("worker-1")
        await cluster.owned(PARTITIONS)
        await scene.shown_to(users)
        await all_committed(cluster, SOON)
        await cluster.down("worker-1")
        await cluster.owned(PARTITIONS)
    for user in users:
        scene.run.load.send(user)
    await all_committed(cluster, SOON)
    await cluster.up("worker-1")


async def _user_of(scene: Scene, partition: int) -> str:
    """Return a user of a partition, with a device."""
    names = (f"{scene.victim}-{number}" for number in itertools.count())
    user = next(name for name in names if home_partition(name.encode(), PARTITIONS) == partition)
    await scene.run.devices.join([(user, "phone")], late=True)
    return user
