"""The process `tocsin gateway`, with real servers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stack.ports import free_port
from stack.servers import Kafka, Redis
from tests.integration.gateway.conftest import SECRET

PREFIX, OTHER = "gwp-", "gwq-"


@pytest.fixture(scope="module")
def servers(kafka: Kafka, redis_server: Redis) -> dict[str, str]:
    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.create_topics(
            [NewTopic(f"{p}{name}", 4, 1) for p in (PREFIX, OTHER) for name in ("connections", "acks", "revocations")]
        )
        await admin.close()

    asyncio.run(make())
    return {"TOCSIN_KAFKA": kafka.address, "TOCSIN_REDIS": redis_server.url, "TOCSIN_PREFIX": PREFIX}


class Process:
    def __init__(self, settings: dict[str, str]) -> None:
        self.metrics_port = free_port()
        code = (
            "import os; from cli.gateway import run_gateway; from streams.settings import read_settings;"
            "run_gateway(read_settings(os.environ))"
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TOCSIN_")}
        environment |= {"TOCSIN_SECRET": SECRET, "TOCSIN_DRAIN": "0.2", "TOCSIN_METRICS_PORT": str(self.metrics_port)}
        self.child = subprocess.Popen(
            [sys.executable, "-c", code], env=environment | settings, stderr=subprocess.PIPE, text=True
        )

    def ready(self) -> dict[str, Any]:
        """Return what `/health/ready` says, empty while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/health/ready", timeout=2) as response:
                body: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as exc:
            with exc:
                body = json.load(exc)
        except OSError:
            return {}
        return body

    def until(self, **wanted: object) -> None:
        deadline = time.monotonic() + 60
        while not wanted.items() <= (said := self.ready()).items():
            assert self.child.poll() is None, self.child.communicate()[1]
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    def until_it_waits(self, **reasons: str) -> None:
        """Wait until it says that it is not ready for these reasons, and perhaps for others."""
        deadline = time.monotonic() + 60
        while not reasons.items() <= (said := self.ready()).get("reasons", {}).items():
            assert self.child.poll() is None, self.child.communicate()[1]
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        self.child.send_signal(signal.SIGTERM)
        _, told = self.child.communicate(timeout=20)
        return self.child.returncode, told


@contextmanager
def process(settings: dict[str, str]) -> Iterator[Process]:
    one = Process(settings)
    try:
        yield one
    finally:
        if one.child.poll() is None:
            one.child.kill()
            one.child.communicate()


def test_several_processes_share_a_port_and_end_cleanly(servers: dict[str, str]) -> None:
    settings = servers | {"TOCSIN_PORT": str(free_port())}
    with process(settings) as one, process(settings) as two:
        one.until(ready=True)
        two.until(ready=True)
        for each in (one, two):
            code, told = each.end()
            assert code == 0, told
            assert [line for line in told.splitlines() if "INFO" not in line] == []


def test_a_redis_that_is_not_there_is_said_and_waited_for(servers: dict[str, str]) -> None:
    address = f"redis://127.0.0.1:{free_port()}/0"
    with process(servers | {"TOCSIN_PORT": "0", "TOCSIN_REDIS": address}) as one:
        one.until_it_waits(gateway="waiting for Redis", redis="no connection to Redis")
        code, told = one.end()
    assert code == 0
    assert len(told.splitlines()) == 1
    assert "the connection to Redis is lost or cannot be made, trying again" in told


def test_a_kafka_that_is_not_there_is_said_and_waited_for(servers: dict[str, str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    with process(servers | {"TOCSIN_PORT": "0", "TOCSIN_KAFKA": address}) as one:
        one.until(ready=False)
        code, told = one.end()
    assert code == 0
    assert f"waiting: Kafka at {address} cannot be used" in told


def test_a_port_that_is_taken_ends_the_start_with_one_line(servers: dict[str, str]) -> None:
    with process(servers | {"TOCSIN_PORT": "0"}) as one:
        one.until(ready=True)
        with process(servers | {"TOCSIN_PORT": str(one.metrics_port)}) as two:
            _, told = two.child.communicate(timeout=20)
            assert two.child.returncode == 1
        assert f"PortTaken: the port 127.0.0.1:{one.metrics_port} cannot be used" in told.splitlines()[-1]


@pytest.mark.parametrize("hosts", [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_a_gateway_does_not_share_the_port_of_another_deployment(
    servers: dict[str, str], hosts: tuple[str, str]
) -> None:
    port = str(free_port())
    first, second = ({"TOCSIN_PORT": port, "TOCSIN_HOST": host} for host in hosts)
    with process(servers | first) as one:
        one.until(ready=True)
        with process(servers | second | {"TOCSIN_PREFIX": OTHER}) as two:
            _, told = two.child.communicate(timeout=30)
            assert two.child.returncode == 1
        assert f"the port {hosts[1]}:{port} cannot be used: a gateway of another deployment listens" in told
        assert one.end()[0] == 0
        with process(servers | second | {"TOCSIN_PREFIX": OTHER}) as two:
            two.until(ready=True)


def test_an_ipv6_address_is_written_in_brackets(servers: dict[str, str]) -> None:
    with process(servers | {"TOCSIN_PORT": str(port := free_port()), "TOCSIN_HOST": "[::1]"}) as one:
        one.until(ready=True)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://[::1]:{port}/", timeout=5)
        code, told = one.end()
    assert code == 0
    assert f"listens on ws://[::1]:{port}, " in told
