"""An operator's replay that is killed and asked for again: experiment 17 of the fault matrix.

`RECORDS=100000 make faults ONLY=replay` does it with as many records.
"""

import asyncio
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from proof.cluster import Cluster
from proof.experiment import Run, experiment
from proof.history import Produce
from proof.load import Operation
from stack.child import Child
from tests.faults.conftest import MakeCluster
from tests.faults.mutant import BAD_KIND

RECORDS: Final = int(os.environ.get("RECORDS", "10000"))
LETTERS: Final = RECORDS // 5
USERS: Final = 40
LANE: Final = "normal"
LOG: Final = f"inbox/{LANE}"
RATE: Final = 400.0  # records a second of the load
KILLED_AT: Final = 0.4  # of what a replay has to write
FINISHES: Final = 60.0 + RECORDS / 100  # s


class Command:
    """A command of ours that may be killed."""

    def __init__(self, cluster: Cluster, *words: str) -> None:
        environment = cluster.environment({}, direct=True)
        log = cluster.folder / "logs" / f"{'-'.join(words[:2])}.log"
        self.child = Child(" ".join(words), [sys.executable, "-m", "cli", *words], log=log, environment=environment)

    async def kill_when(self, run: Run, entries: int) -> None:
        """Start it, and end it with kill -9 when devices have shown so many more entries."""
        aim = run.devices.swarm.received + entries
        self.child.spawn()
        await run.wait(lambda: run.devices.swarm.received >= aim or not self.child.running, "it is half-way", FINISHES)
        assert self.child.running, f"it ended before it was killed: {self.child.log.read_text()}"
        await asyncio.to_thread(self.child.kill)

    async def finish(self) -> str:
        """Run it to its end and return what it printed."""
        before = self.child.log.stat().st_size if self.child.log.exists() else 0
        self.child.spawn()
        assert await asyncio.to_thread(self.child.wait, FINISHES), f"{self.child.name} does not end"
        printed = self.child.log.read_bytes()[before:].decode()
        assert self.child.code == 0, printed
        return printed


def announced(run: Run, name: str) -> None:
    """Note in the history that an operator is about to produce each record of the lane again."""
    for user_log, operations in list(run.load.owed.items()):
        for operation in list(operations):
            again = f"replay:{name}:{operation.id}"
            number = -run.history.count  # the load numbers its own from 1 on
            run.history.add(Produce(at=run.history.now(), op=number, user=operation.user, lane=LANE, id=again))
            run.load.owed[user_log].append(Operation(operation.user, LANE, again, run.history.now()))


def shown_by(run: Run) -> dict[tuple[str, str], list[str]]:
    """Return the ids that each device has shown, in their order."""
    return {(device.user, device.name): list(device.ids) for device in run.devices.swarm.devices}


async def test_a_replay_killed_and_asked_for_again_leaves_every_device_as_one_run_does(
    cluster: MakeCluster, out: Path
) -> None:
    name = "again"
    async with (
        cluster(workers=1, gateways=1) as running,
        experiment(
            running, "replay-twice", out=out, users=USERS, rate=RATE, seconds=RECORDS / RATE, lanes={LANE: 1.0},
            at_least=RECORDS - 1, bound=60,
        ) as run,
    ):  # fmt: skip
        await run.wait(lambda: run.load.acknowledged >= RECORDS - 1, "the records are there", FINISHES)
        assert await run.until_all_shown(60, lambda _device, _id: True)
        before = shown_by(run)
        announced(run, name)
        command = Command(running, "replay", "redeliver", "--lane", LANE, "--run", name, "--rate", "1000", "--yes")
        async with run.fault("kill -9 of the replay"):
            await command.kill_when(run, int(2 * RECORDS * KILLED_AT))
        again = Command(running, "replay", "redeliver", "--run", name, "--yes")
        assert "finished" in await again.finish()
        assert "nothing to do" in await again.finish()
        run.notes["records"] = RECORDS
        assert await run.until_all_shown(120, lambda _device, _id: True)
        expected = {device: [*ids, *(f"replay:{name}:{id_}" for id_ in ids)] for device, ids in before.items()}
        assert shown_by(run) == expected


async def test_letters_redriven_twice_with_a_kill_between_are_shown_once(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=1, gateways=1) as running,
        experiment(
            running, "redrive-twice", out=out, users=USERS, rate=1, seconds=0, at_least=LETTERS, bound=60
        ) as run,
    ):
        await running.down("worker-0")
        await running.up("worker-0", mutant="rule_fails_on_a_kind")
        sent: defaultdict[str, list[str]] = defaultdict(list)
        for number in range(LETTERS):
            user = f"u{number % USERS}"
            sent[user].append(run.load.send(user, kind=BAD_KIND))
            if number % 20 == 0:
                await asyncio.sleep(20 / RATE)  # the pace of the load
        await letters(running, run, LETTERS)
        await running.down("worker-0")
        await running.up("worker-0")
        await running.ready("worker-0")
        command = Command(
            running, "dlq", "redrive", "--reason", "rule_failed", "--rate", "400", "--run", "fixed", "--yes"
        )
        async with run.fault("kill -9 of the redrive"):
            await command.kill_when(run, int(2 * LETTERS * KILLED_AT))
        assert "finished" in await command.finish()
        assert "nothing to do" in await command.finish()
        assert await run.until_all_shown(120, lambda _device, _id: True)
        assert shown_by(run) == {(user, device): ids for user, ids in sent.items() for device in ("phone", "web")}
        assert await running.tocsin("dlq", "ls") == "no dead letters\n"


async def letters(cluster: Cluster, run: Run, count: int) -> None:
    """Return when so many dead letters lie in their topic."""
    found = 0
    while found < count:
        printed = await cluster.tocsin("dlq", "ls", "--json")
        found = sum(one["count"] for one in msgspec.json.decode(printed))
        await run.wait(lambda: run.load.acknowledged >= count, "Kafka has all records")
