"""Limits that change while what they limit flows: experiment 22 of the fault matrix."""

import asyncio
import itertools
from collections import defaultdict
from pathlib import Path

from proof.experiment import Run, experiment
from proof.history import Entry, Skip, Status, read
from tests.faults.conftest import MakeCluster

USERS = [f"u{number}" for number in range(20)]
RATE = 60  # bulk records a second: 3 a user, far more than 5/60
LIMITS = ("600/60", "5/60", "5/60", "", "600/60")  # the worker's, one life after the other


async def flood(run: Run) -> None:
    """Produce bulk records to everybody, in turn."""
    for number, user in enumerate(itertools.cycle(USERS)):
        run.load.send(user, "bulk", id=f"bulk-{number}")
        await asyncio.sleep(1 / RATE)  # the rate itself


async def test_a_limit_changed_between_crash_and_restart_loses_nothing(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=1, TOCSIN_LIMIT_BULK=LIMITS[0]) as running,
        experiment(
            running,
            "limits-changed",
            out=out,
            users=USERS,
            rate=180,
            seconds=55,
            lanes={"normal": 0.9, "critical": 0.1},
            at_least=10_000,
            throughout=True,
            owes=lambda _device, id_: not id_.startswith("bulk-"),
        ) as run,
    ):
        flooding = asyncio.create_task(flood(run))
        await told_of_bulk(run, 400)
        for limit in LIMITS[1:]:
            async with run.fault(f"kill -9 worker-0, then a limit of {limit or 'nothing'}"):
                await running.down("worker-0", kill=True)
                await running.up("worker-0", TOCSIN_LIMIT_BULK=limit)
            await running.owned()
            await told_of_bulk(run, 400)
        flooding.cancel()
        await run.load.settle()
        await run.wait(lambda: all_bulk_is_settled(run), "all devices are at the head of inbox/bulk")
    assert_each_is_shown_or_dropped(run)


async def told_of_bulk(run: Run, more: int) -> None:
    """Return when devices were told of so many bulk records more, be it by an entry or a `skip`."""

    def told() -> int:
        return sum(device.cursors.get("inbox/bulk", 0) for device in run.devices.swarm.devices)

    aim = told() + more * len(run.devices.swarm.devices) // len(USERS)
    await run.wait(lambda: told() >= aim, f"devices are told of {more} bulk records more")


def all_bulk_is_settled(run: Run) -> bool:
    """Whether all devices were told of each bulk record that Kafka has."""
    owed = run.load.owed
    return all(
        device.cursors.get("inbox/bulk", 0) >= len(owed[device.user, "inbox/bulk"])
        for device in run.devices.swarm.devices
    )


def assert_each_is_shown_or_dropped(run: Run) -> None:
    """Every bulk record is shown by both devices, or has a status and a `skip` on both."""
    shown: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    skipped: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    dropped: defaultdict[str, set[str]] = defaultdict(set)
    for event in read(run.history.path):
        match event:
            case Entry(log="inbox/bulk"):
                shown[event.user, event.device].add(event.id)
            case Skip(log="inbox/bulk", reason="rate_limited"):
                skipped[event.user, event.device].update(range(event.first, event.last + 1))
            case Status(state="dropped", reason="rate_limited"):
                dropped[event.user].add(event.id)
    run.notes["dropped"] = sum(map(len, dropped.values()))
    assert all(dropped[user] for user in USERS)  # the limit of 5/60 was felt
    for user in USERS:
        taken = {operation.id for operation in run.load.owed[user, "inbox/bulk"]}
        for device in ("phone", "web"):
            assert shown[user, device] == taken - dropped[user]
            assert len(skipped[user, device]) == len(dropped[user])
