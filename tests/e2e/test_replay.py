"""Operators replay a running deployment, and are killed at it: every device ends as after one replay."""

import asyncio
import json
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from bench.swarm import until
from tests.system import System, stop
from tests.terminal import Listener

COUNT = 450


def run_of(system: System, name: str) -> dict[str, Any]:
    """Return what is known of a run."""
    shown = system.tocsin("replay", "show", name, "--json")
    return json.loads(shown.stdout) if shown.returncode == 0 else {"counts": {}, "event": ""}


@pytest.mark.thorough
async def test_a_redelivery_killed_in_the_middle_and_done_again_is_one_redelivery(system: System) -> None:
    user = "replay-1"
    sent = system.tocsin("send", user, "hello", "--count", str(COUNT), "--key", "r", "--json")
    assert sent.returncode == 0, sent.stderr
    ids = [json.loads(line)["id"] for line in sent.stdout.splitlines()]
    with Listener(system, user, "--device", "phone") as phone, Listener(system, user, "--device", "web") as web:
        phone.wait(COUNT)
        web.wait(COUNT)
        plan = system.tocsin(
            "replay", "redeliver", "--lane", "normal", "--from", "-1h", "--user", user, "--again", "--json"
        )
        assert plan.returncode == 0, plan.stderr
        planned = json.loads(plan.stdout)
        assert (planned["taken"], planned["users"]) == (COUNT, {user: COUNT})
        command = planned["command"].split()[1:]
        name = planned["run"]
        process = system.spawn(*command, "--rate", "20")
        try:
            await until(lambda: run_of(system, name)["counts"].get("taken", 0) > 0, 60, "the run has begun")
        finally:
            process.kill()  # the fault
            process.communicate()
        assert run_of(system, name)["event"] in ("started", "progress")
        again = await asyncio.to_thread(system.tocsin, *command)
        assert again.returncode == 0, again.stderr
        assert f"run {name}: finished, {COUNT} records" in again.stdout
        third = system.tocsin("replay", "redeliver", "--run", name, "--yes")
        assert "nothing to do" in third.stdout
        system.tocsin("send", user, "the last", "--key", "end")
        expected = [*ids, *(f"replay:{name}:{id_}" for id_ in ids), "end"]
        for device in (phone, web):
            shown = device.wait(2 * COUNT + 1)
            assert [entry["id"] for entry in shown] == expected
            assert [entry.get("replayed", False) for entry in shown] == [False] * COUNT + [True] * COUNT + [False]


async def test_a_letter_that_is_sent_back_twice_is_shown_once(system: System) -> None:
    user = "replay-2"
    value = json.dumps({"user": user, "title": "fixed"}).encode()
    said = {"topic": "notifications.normal", "partition": "0", "offset": "1", "time": "1", "reason": "rule_failed"}
    headers = [(f"tocsin-{name}", text.encode()) for name, text in {**said, "error": "a fault that is fixed"}.items()]
    async with AIOKafkaProducer(bootstrap_servers=system.kafka) as producer:
        await producer.send_and_wait("dead-letters", value, key=user.encode(), headers=headers)
    with Listener(system, user) as device:
        chosen = ("--reason", "rule_failed", "--user", user)
        listed = system.tocsin("dlq", "ls", *chosen, "--json")
        assert [one["count"] for one in json.loads(listed.stdout)] == [1]
        assert "a fault that is fixed" in system.tocsin("dlq", "show", *chosen).stdout
        for options in (("--run", "first"), ("--run", "second", "--all")):
            done = system.tocsin("dlq", "redrive", *chosen, *options, "--yes")
            assert done.returncode == 0, done.stderr
        assert system.tocsin("dlq", "ls", *chosen).stdout == "no dead letters\n"
        assert system.tocsin("send", user, "after", "--key", "after").returncode == 0
        first, after = device.wait(2)
        assert (first["title"], after["id"]) == ("fixed", "after")


def test_a_replay_ends_after_the_batch_in_flight_when_it_is_interrupted(system: System) -> None:
    user = "replay-3"
    assert system.tocsin("send", user, "hello", "--count", "50", "--json").returncode == 0
    process = system.spawn(
        "replay",
        "redeliver",
        "--lane",
        "normal",
        "--user",
        user,
        "--from",
        "-1h",
        "--rate",
        "1",
        "--run",
        "slow",
        "--yes",
    )
    while not run_of(system, "slow")["counts"].get("taken"):
        assert process.poll() is None, process.communicate()
    stop(process)
    said, _ = process.communicate()
    assert process.returncode == 130
    assert "run slow: stopped" in said
    assert "tocsin replay redeliver --run slow --yes" in said
    shown = run_of(system, "slow")
    assert (shown["event"], 0 < shown["counts"]["taken"] < 50) == ("stopped", True)
