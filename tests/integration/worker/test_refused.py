"""What Kafka or the store refuses: one dead letter, the lane goes on; and what stands still or was deleted is seen."""

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from tests.integration.worker.conftest import Deployment, home, until

LONG_AGO = "2001-01-01T00:00:00Z"
LONG_ID = "x" * 250
LIMIT = 600  # bytes of a batch: a status with a short id fits several times, one with a long id does not


async def _configure(kafka: str, topic: str, **config: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)
        for answer in await client.alter_configs([resource]):
            assert {error for error, *_ in answer.to_object()["resources"]} <= {0} or answer
    finally:
        await client.close()


def configure(deployment: Deployment, topic: str, **config: str) -> None:
    """Set what a topic is configured with."""
    asyncio.run(_configure(deployment.kafka, deployment.prefix + topic, **config))


async def _delete(kafka: str, topic: str, partition: int, before: int) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        await client.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=before)})
    finally:
        await client.close()


def metric(deployment: Deployment, name: str) -> float:
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{deployment._port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def ready(deployment: Deployment) -> dict[str, Any]:
    """What the worker says of being ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{deployment._port}/health/ready", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as exc:
        found = json.load(exc)
    return found


def sql(deployment: Deployment, statement: str) -> None:
    """Do something to the store behind the worker's back."""
    with closing(sqlite3.connect(deployment.store.removeprefix("sqlite://"), timeout=10)) as connection:
        connection.execute(statement)
        connection.commit()


@contextmanager
def locked(deployment: Deployment) -> Iterator[None]:
    """Keep all others from writing to the store."""
    with closing(sqlite3.connect(deployment.store.removeprefix("sqlite://"), timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.rollback()


def test_a_status_that_kafka_refuses_makes_a_dead_letter_of_its_record_and_of_no_other(deployment: Deployment) -> None:
    configure(deployment, "statuses", **{"max.message.bytes": str(LIMIT)})
    bad = [
        deployment.send_note("ann", partition=home("ann"), id=f"{n}{LONG_ID}", expires_at=LONG_AGO) for n in range(2)
    ]
    for number in range(40):
        deployment.send_note("ann", id=f"expired-{number}", expires_at=LONG_AGO)
        deployment.send_note("ann", id=f"entry-{number}")
    bad.append(deployment.send_note("ann", id=f"2{LONG_ID}", expires_at=LONG_AGO))
    last = deployment.send_note("ann", id="last")
    deployment.start()
    deployment.wait_until_ready()
    assert [row.key for row in deployment.expect_rows("ann", 41)] == [*(f"entry-{n}" for n in range(40)), "last"]
    until(lambda: deployment.committed("notifications.normal", last[0]) == last[1] + 1)
    for place in bad:
        (letter,) = deployment.letters_of(place)
        assert letter.headers["tocsin-reason"] == b"refused"
        assert b"MessageSizeTooLarge" in letter.headers["tocsin-error"]
    told = {status["id"] for status in deployment.statuses_of("ann")}
    assert told == {f"expired-{number}" for number in range(40)}
    assert metric(deployment, "tocsin_refused_total") == len(bad)
    assert len(deployment.written("dead-letters")) == len(bad)


def test_a_dead_letter_that_kafka_refuses_is_shortened(deployment: Deployment) -> None:
    configure(deployment, "dead-letters", **{"max.message.bytes": "2000"})
    place = deployment.send(b"ann", b"{" + b"x" * 20_000)
    deployment.send_note("ann", id="next")
    deployment.start()
    deployment.wait_until_ready()
    deployment.expect_rows("ann", 1)
    (letter,) = deployment.letters_of(place)
    assert (letter.key, letter.value) == (None, b"")
    assert letter.headers["tocsin-reason"] == b"not_json", "the reason that it would have had"
    assert letter.headers["tocsin-truncated"] == b"key,value,headers"


def test_a_row_that_the_store_refuses_makes_one_dead_letter(deployment: Deployment) -> None:
    sql(
        deployment,
        "CREATE TRIGGER no BEFORE INSERT ON log_rows WHEN new.key LIKE 'bad%' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    places = [deployment.send_note("bob", id="first")]
    places += [deployment.send_note("bob", id=key) for key in ("bad-1", "good", "bad-2", "last")]
    others = [deployment.send_note(f"user-{number}") for number in range(50)]
    deployment.start()
    deployment.wait_until_ready()
    assert [(row.seq, row.key) for row in deployment.expect_rows("bob", 3)] == [(1, "first"), (2, "good"), (3, "last")]
    for number in range(len(others)):
        deployment.expect_rows(f"user-{number}", 1)
    assert [len(deployment.letters_of(place)) for place in places] == [0, 1, 0, 1, 0]
    (letter,) = deployment.letters_of(places[1])
    assert letter.headers["tocsin-reason"] == b"refused"


def test_a_store_that_is_no_longer_the_one_it_was_ends_the_worker_in_one_line(deployment: Deployment) -> None:
    deployment.start()
    deployment.wait_until_ready()
    sql(deployment, "DROP TABLE log_rows")
    place = deployment.send_note("ann")
    until(deployment.ended)
    assert "tocsin: " in deployment.said().splitlines()[-1]
    assert "the file of the store cannot be used" in deployment.said().splitlines()[-1]
    assert deployment.committed("notifications.normal", place[0]) <= place[1]
    assert not deployment.written("dead-letters")


def test_a_lane_that_stands_still_is_seen_and_seen_to_go_on(deployment: Deployment) -> None:
    deployment.start()
    deployment.wait_until_ready()
    with locked(deployment):
        partition, offset = deployment.send_note("ann")
        place = f"{deployment.prefix}notifications.normal:{partition}@{offset}"
        until(lambda: not ready(deployment)["ready"], 60)
        assert place in ready(deployment)["reasons"]["lanes"]
        assert "locked" in ready(deployment)["reasons"]["lanes"]
        assert deployment.said().count(f"its record at {place} has been tried for") == 1
        assert metric(deployment, "tocsin_lane_stalled") == metric(deployment, "tocsin_lane_stalls_total") == 1
        code, findings = deployment.doctor()
        assert code == 1
        assert any(one["level"] == "FAIL" and place in one["text"] + one["check"] for one in findings), findings
    deployment.expect_rows("ann", 1)
    until(lambda: ready(deployment)["ready"])
    assert f"{place} goes on again" in deployment.said()
    assert metric(deployment, "tocsin_lane_stalled") == 0


def test_what_kafka_deleted_before_it_was_processed_is_counted_said_and_a_failure(deployment: Deployment) -> None:
    deployment.start()
    deployment.wait_until_ready()
    for number in range(3):
        deployment.send_note("ann", id=f"seen-{number}")
    deployment.expect_rows("ann", 3)
    until(lambda: deployment.committed("notifications.normal", home("ann")) == 3)
    deployment.stop()
    for number in range(5):
        deployment.send_note("ann", id=f"gone-{number}")
    topic = f"{deployment.prefix}notifications.normal"
    asyncio.run(_delete(deployment.kafka, topic, home("ann"), 8))
    code, findings = deployment.doctor()
    assert code == 1
    assert any("5 records were deleted before" in one["text"] and one["level"] == "FAIL" for one in findings)
    deployment.start()
    deployment.wait_until_ready()
    deployment.send_note("ann", id="kept")
    assert deployment.expect_rows("ann", 4)[-1].key == "kept"
    assert f"{topic}:{home('ann')}: Kafka deleted the records 3 to 7 (5) before" in deployment.said()
    assert metric(deployment, "tocsin_records_deleted_total") == 5
    until(lambda: deployment.committed("notifications.normal", home("ann")) == 9)
    code, findings = deployment.doctor()
    assert code == 1, "also when the worker has gone on"
    assert any("3 to 7" in one["text"] and one["level"] == "FAIL" for one in findings), findings
