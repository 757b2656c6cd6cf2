"""The permissions of the documentation, asked of a real Redis: each role may do its work and not that of others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from stack.servers import Redis
from streams.topics import load_topics

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
PREFIX = "acme."


@pytest.fixture(scope="module")
def client(redis_server: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as connected:
        lines = re.findall(r"^user (\w+) on >PASSWORD (.+)$", OPERATIONS.read_text(), re.MULTILINE)
        for name, rules in lines:
            connected.execute_command("ACL", "SETUSER", name, "reset", "on", ">x", *_words(rules))
        yield connected
        for name, _ in lines:
            connected.execute_command("ACL", "DELUSER", name)


def _words(rules: str) -> list[str]:
    """Return the rules as words; what stands in parentheses is one."""
    return re.findall(r"\([^)]*\)|\S+", rules)


def may(client: redis.Redis, user: str, *command: str) -> bool:
    answer: Any = client.acl_dryrun(user, *command)
    return bool(answer == b"OK")


LEASE, OWN, ALL, REPLY = (f"{PREFIX}{name}" for name in ("gateway:g1", "gw:g1", "gateways", "reply:1"))
WORKER = f"{PREFIX}worker:w1"
HOLD = [("SET", WORKER, "x"), ("DEL", WORKER), ("PING",)]
LOOK = [("MGET", LEASE), ("SCAN", "0")]
WORK = {
    "worker": [
        ("PUBLISH", OWN, "x"),
        ("PUBLISH", ALL, "x"),
        ("MGET", LEASE),
        ("SET", WORKER, "x"),
        ("DEL", WORKER),
        ("PING",),
    ],
    "gateway": [("SUBSCRIBE", OWN, ALL), ("PUBLISH", REPLY, "x"), ("SET", LEASE, "x"), ("DEL", LEASE), *LOOK],
    "operator": [("PUBLISH", ALL, "x"), ("SUBSCRIBE", REPLY), ("CONFIG", "GET", "maxmemory"), ("MGET", WORKER), *LOOK],
}
NOT_THEIRS = {
    "worker": [("SUBSCRIBE", OWN), ("SET", LEASE, "x"), ("PUBLISH", REPLY, "x"), ("FLUSHALL",)],
    "gateway": [
        ("SET", WORKER, "x"),
        ("PUBLISH", OWN, "x"),
        ("PUBLISH", ALL, "x"),
        ("SET", "other", "x"),
        ("FLUSHALL",),
    ],
    "operator": [("PUBLISH", OWN, "x"), ("SET", LEASE, "x"), ("CONFIG", "SET", "maxmemory", "1")],
    "tocsin": [("SET", "other", "x"), ("PUBLISH", "other", "x"), ("FLUSHALL",)],
}


@pytest.mark.parametrize("role", WORK)
def test_each_role_may_do_its_work(client: redis.Redis, role: str) -> None:
    for command in WORK[role]:
        assert may(client, role, *command), command
        assert role == "operator" or may(client, "tocsin", *command), command


@pytest.mark.parametrize("role", NOT_THEIRS)
def test_no_role_may_do_what_is_not_its_own(client: redis.Redis, role: str) -> None:
    for command in NOT_THEIRS[role]:
        assert not may(client, role, *command), command


def test_the_documentation_says_of_every_topic_who_may_write_it() -> None:
    text = OPERATIONS.read_text()
    table = text[text.index("### What Kafka has to allow") : text.index("### What Redis has to allow")]
    named = set(re.findall(r"`([\w.-]+)`", "".join(line for line in table.splitlines() if line.startswith("| `"))))
    assert {name for name, topic in load_topics().topics.items()} <= named
