"""A producer as others run it: librdkafka with its defaults, whose partitioner is not the one of our floor."""

import json
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.system import System
from tests.terminal import Listener


def produce(system: System, users: list[str], count: int, **options: Any) -> dict[str, list[str]]:
    """Send `count` notifications to each user, with a client of its own; return the ids by user."""
    producer = Producer({"bootstrap.servers": system.kafka, **options})
    failed: list[Any] = []
    ids: dict[str, list[str]] = {user: [] for user in users}
    for number in range(1, count + 1):
        for user in users:
            ids[user].append(f"{user}-{number}")
            value = json.dumps({"id": ids[user][-1], "user": user, "title": f"t{number}"})
            producer.produce(
                "notifications.normal",
                value,
                key=user,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
    assert producer.flush(30) == 0
    assert not failed
    return ids


@pytest.mark.parametrize("options", [{}, {"partitioner": "murmur2_random"}], ids=["default", "murmur2"])
def test_its_records_arrive_once_and_in_the_order_of_each_user(system: System, options: dict[str, Any]) -> None:
    name = "".join(options.values()) or "default"
    ids = produce(system, [f"crc-{name}-{n}" for n in range(8)], 20, **options)
    for user, expected in ids.items():
        with Listener(system, user) as listener:
            shown = listener.wait(len(expected))
        assert [entry["id"] for entry in shown] == expected
        assert [entry["seq"] for entry in shown] == list(range(1, len(expected) + 1))
