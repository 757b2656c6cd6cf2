"""Records that are wrong, and records that come more than once: experiments 12 and 13 of the fault matrix."""

import json
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

from aiokafka import AIOKafkaProducer

from proof.cluster import Cluster
from proof.experiment import experiment
from proof.history import DeadLetter, Entry, Produce, Produced, read
from proof.load import Load
from tests.faults.conftest import MakeCluster
from tests.faults.mutant import BAD_KIND
from tests.faults.offsets import PARTITIONS

TURNS = 10
KEYS = 60
AT_ONCE = 10


def oversize(user: str) -> bytes:
    return json.dumps({"user": user, "title": "too long", "body": "x" * 70_000}).encode()


def no_json(_user: str) -> bytes:
    return b'{"user": '


def no_text(user: str) -> bytes:
    return json.dumps({"user": user, "title": 1}).encode()


def fails_in_the_rule(user: str) -> bytes:
    return json.dumps({"user": user, "title": "innocent", "kind": BAD_KIND}).encode()


POISONS = {"not_json": no_json, "bad_request": no_text, "too_large": oversize, "rule_failed": fails_in_the_rule}


async def garbage_for_connections(running: Cluster) -> None:
    """Put into each partition of `connections` what no gateway writes."""
    async with AIOKafkaProducer(bootstrap_servers=running.kafka, acks="all") as producer:
        for number in range(PARTITIONS):
            await producer.send_and_wait(f"{running.prefix}connections", b"{]", partition=number)


async def test_poison_makes_one_dead_letter_each_and_its_partition_goes_on(cluster: MakeCluster, out: Path) -> None:
    asked: dict[int, str] = {}
    async with (
        cluster(workers=1, store="sqlite", mutant="rule_fails_on_a_kind") as running,
        experiment(running, "poison", out=out, rate=300, seconds=35, bound=5, at_least=10_000, throughout=True) as run,
    ):
        for turn in range(TURNS):
            await run.progress(500)
            async with run.fault(f"poison, turn {turn}"):
                for number, (reason, poison) in enumerate(POISONS.items()):
                    for lane in ("critical", "normal", "bulk"):
                        user = f"u{(turn + 7 * number) % 50}"
                        asked[run.load.poison(user, poison(user), lane)] = reason
                await garbage_for_connections(running)
        assert not running.exits
    places = {
        (f"notifications.{lanes}", ok.partition, ok.offset): asked[ok.op]
        for ok, lanes in _answers(run.history.path).items()
        if ok.op in asked
    }
    found = [event for event in read(run.history.path) if isinstance(event, DeadLetter)]
    letters = [letter for letter in found if letter.topic != "connections"]
    of_connections = Counter((letter.partition, letter.offset) for letter in found if letter.topic == "connections")
    assert (len(of_connections), set(of_connections.values())) == (TURNS * PARTITIONS, {1})
    assert len(places) == len(asked)
    assert Counter((letter.topic, letter.partition, letter.offset) for letter in letters) == dict.fromkeys(places, 1)
    assert {(letter.topic, letter.partition, letter.offset): letter.reason for letter in letters} == places


def _answers(path: Path) -> dict[Produced, str]:
    """Return the lane of each acknowledged record."""
    lanes: dict[int, str] = {}
    found: dict[Produced, str] = {}
    for event in read(path):
        match event:
            case Produce():
                lanes[event.op] = event.lane
            case Produced():
                found[event] = lanes[event.op]
    return found


async def test_the_same_id_from_10_producers_at_once_is_one_entry(cluster: MakeCluster, out: Path) -> None:
    sent: defaultdict[tuple[str, str], set[str]] = defaultdict(set)  # ids by (user, log)
    async with (
        cluster(workers=2) as running,
        experiment(running, "same-id-10-times", out=out, rate=200, seconds=50, at_least=10_000, throughout=True) as run,
        AsyncExitStack() as stack,
    ):
        loads = [run.load] + [
            await stack.enter_async_context(Load(run.history, running.kafka, running.prefix, beside=run.load))
            for _ in range(AT_ONCE - 1)
        ]
        for number in range(KEYS):
            await run.progress(100)
            user, lanes = f"u{number % 50}", ("normal", "critical") if number % 2 else ("bulk",)
            for lane in lanes:
                sent[user, f"inbox/{lane}"].add(f"key-{number}")
                for load in loads:
                    load.send(user, lane, id=f"key-{number}")
            if number in (KEYS // 3, 2 * KEYS // 3):  # while they are on their way
                async with run.fault(f"kill -9 worker-{number % 2}"):
                    await running.kill(f"worker-{number % 2}")
    seqs: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
    for event in read(run.history.path):
        if isinstance(event, Entry) and event.id.startswith("key-"):
            seqs[event.user, event.log, event.id].add(event.seq)
    assert set(seqs) == {(user, log, id_) for (user, log), ids in sent.items() for id_ in ids}
    assert all(len(found) == 1 for found in seqs.values())
