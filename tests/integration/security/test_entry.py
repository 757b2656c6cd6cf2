"""Who is let in, and what is said to those who are not: one line, no traceback, no password."""

import subprocess
import sys

import pytest

from tests.integration.security.conftest import SECRET, Floor
from tests.integration.security.servers import KAFKA_PASSWORD, REDIS_PASSWORD, STORE_PASSWORD
from tests.system import environment

WRONG = "wrong-p@ss/word-canary"


def tocsin(floor: Floor, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the settings of the floor, changed; an empty one is left out."""
    settings = {**floor.environment(), **changes}
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        check=False, capture_output=True, text=True, timeout=90, cwd=floor.folder,
        env=environment(**{name: value for name, value in settings.items() if value}),
    )  # fmt: skip


def test_the_commands_of_operators_get_in(floor: Floor) -> None:
    for arguments in (("store", "apply"), ("topics", "apply"), ("topics", "plan")):
        done = tocsin(floor, *arguments)
        assert done.returncode == 0, done.stderr + done.stdout


KAFKA = {
    "password": (
        {"TOCSIN_KAFKA_PASSWORD_FILE": "", "TOCSIN_KAFKA_PASSWORD": WRONG},
        "refuses the user or the password",
    ),
    "user": ({"TOCSIN_KAFKA_USER": "nobody"}, "refuses the user or the password"),
    "authority": ({"TOCSIN_KAFKA_CA": "{stranger}"}, "has a certificate that is not good"),
    "name": ({"TOCSIN_KAFKA": "localhost:{kafka}"}, "has a certificate that is not good: Hostname mismatch"),
}
REDIS = {
    "password": ({"TOCSIN_REDIS_PASSWORD_FILE": "", "TOCSIN_REDIS_PASSWORD": WRONG}, "Redis refuses the user"),
    "authority": ({"TOCSIN_REDIS_CA": "{stranger}"}, "Redis has a certificate that is not good"),
    "name": ({"TOCSIN_REDIS": "rediss://tocsin@localhost:{redis}/0"}, "Redis has a certificate that is not good: Host"),
}
STORE = {
    "password": ({"TOCSIN_STORE_PASSWORD_FILE": "", "TOCSIN_STORE_PASSWORD": WRONG}, "incorrect"),
    "authority": ({"TOCSIN_STORE_CA": "{stranger}"}, "certificate verify failed"),
    "name": ({"TOCSIN_STORE": "cassandra://tocsin@127.0.0.1:{impostor}/tocsin"}, "IP address mismatch"),
}
COMMANDS = {
    "send": ("send", "u1", "hello"),
    "topics": ("topics", "plan"),
    "store": ("store", "plan"),
    "worker": ("worker", "--role", "inbox"),
    "gateway": ("gateway",),
}
CASES = [
    *(
        (command, f"kafka-{what}", *KAFKA[what])
        for command in ("send", "topics", "worker", "gateway")
        for what in KAFKA
    ),
    *((command, f"redis-{what}", *REDIS[what]) for command in ("worker", "gateway") for what in REDIS),
    *((command, f"store-{what}", *STORE[what]) for command in ("store", "worker") for what in STORE),
]


@pytest.mark.parametrize(
    ("command", "what", "changes", "reason"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES]
)
def test_who_is_not_let_in_is_told_why_in_one_line(
    floor: Floor, impostor: int, command: str, what: str, changes: dict[str, str], reason: str
) -> None:
    places = {
        "stranger": floor.stranger.certificate, "kafka": floor.kafka.port, "redis": floor.redis.port,
        "impostor": impostor,
    }  # fmt: skip
    done = tocsin(floor, *COMMANDS[command], **{name: value.format(**places) for name, value in changes.items()})
    said = done.stdout + done.stderr
    assert done.returncode == 1, (what, said)
    assert reason in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1 or command in ("worker", "gateway")  # these also write what they begin with
    for secret in (WRONG, KAFKA_PASSWORD, REDIS_PASSWORD, STORE_PASSWORD, SECRET):
        assert secret not in said


def test_a_client_without_tls_is_not_let_in(floor: Floor) -> None:
    open_ = {"TOCSIN_KAFKA_SECURITY": "plaintext", "TOCSIN_KAFKA_USER": "", "TOCSIN_KAFKA_PASSWORD_FILE": "",
             "TOCSIN_KAFKA_CA": ""}  # fmt: skip
    done = tocsin(floor, "topics", "plan", **open_)
    assert done.returncode == 1
    assert "TOCSIN_KAFKA_SECURITY" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_every_mechanism_works(floor: Floor, mechanism: str) -> None:
    prepared = tocsin(floor, "store", "apply")
    assert prepared.returncode == 0, prepared.stderr
    done = tocsin(floor, "topics", "apply", TOCSIN_KAFKA_SASL=mechanism)
    assert done.returncode == 0, done.stderr
