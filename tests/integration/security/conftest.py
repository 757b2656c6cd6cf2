"""Servers that demand TLS, a user and a password, and the settings to get in; started once for all tests here."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stack.ports import LOOPBACK
from tests.integration.security.certificates import authority, certificate
from tests.integration.security.servers import (
    KAFKA_PASSWORD,
    KAFKA_PERMISSIONS,
    PREFIX,
    REDIS_PASSWORD,
    STORE_PASSWORD,
    USER,
    SecuredCassandra,
    SecuredKafka,
    SecuredRedis,
)
from tests.system import READY, System, environment, stop

SECRET = "a-secret-of-the-tokens-that-is-long-enough"
PAGES = ("metrics", "health/live", "health/ready")


class Floor:
    """The secured servers, the certificates, and the environment that gets a process of ours in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours = authority(folder, "authority")
        self.stranger = authority(folder, "stranger")
        self.keys = certificate(folder, "server", self.ours, names="IP:127.0.0.1")
        self.kafka = SecuredKafka(folder / "kafka", self.keys, self.ours)
        self.redis = SecuredRedis(folder / "redis", self.keys, self.ours)
        self.cassandra = SecuredCassandra(folder / "cassandra", self.keys, self.ours)

    def environment(self) -> Mapping[str, str]:
        """Settings as an operator writes them: passwords in files."""
        ca = str(self.ours.certificate)
        return {
            "TOCSIN_PREFIX": PREFIX,
            "TOCSIN_SECRET_FILE": self.file("secret", SECRET),
            "TOCSIN_KAFKA": self.kafka.address,
            "TOCSIN_KAFKA_SECURITY": "sasl_ssl",
            "TOCSIN_KAFKA_USER": USER,
            "TOCSIN_KAFKA_PASSWORD_FILE": self.file("kafka-password", KAFKA_PASSWORD),
            "TOCSIN_KAFKA_CA": ca,
            "TOCSIN_REDIS": f"rediss://{USER}@{self.redis.address}/0",
            "TOCSIN_REDIS_PASSWORD_FILE": self.file("redis-password", REDIS_PASSWORD),
            "TOCSIN_REDIS_CA": ca,
            "TOCSIN_STORE": f"cassandra://{USER}@{self.cassandra.address}/tocsin",
            "TOCSIN_STORE_PASSWORD_FILE": self.file("store-password", STORE_PASSWORD),
            "TOCSIN_STORE_CA": ca,
        }

    def file(self, name: str, content: str) -> str:
        path = self.folder / name
        path.write_text(content + "\n")
        return str(path)


@pytest.fixture(scope="session")
def impostor(floor: Floor) -> Iterator[int]:
    """The port of somebody with a good certificate, but of another host."""
    keys = certificate(floor.folder, "elsewhere", floor.ours, names="DNS:elsewhere.example")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(keys.certificate, keys.key)
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the socket is closed: the end
                while True:
                    connection, _ = listening.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        yield int(listening.getsockname()[1])


@pytest.fixture(scope="session")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    made = Floor(tmp_path_factory.mktemp("floor"))
    servers = (made.kafka, made.redis, made.cassandra)
    try:
        for server in servers:  # all at once: Java takes its time
            server.spawn()
        for server in servers:
            server.wait()
        made.kafka.admit(KAFKA_PERMISSIONS)
        made.cassandra.admit()
        yield made
    finally:
        for server in servers:
            server.stop()


class Deployment(System):
    """`tocsin up` on the secured servers, with TLS on the gateway's port and every log at `debug`."""

    def __init__(self, floor: Floor, folder: Path) -> None:
        self.floor = floor
        self.folder = folder
        self.variables = {
            **floor.environment(),
            "TOCSIN_TLS_CERT": str(floor.keys.certificate),
            "TOCSIN_TLS_KEY": str(floor.keys.key),
            "TOCSIN_LOG_LEVEL": "debug",
            "SSL_CERT_FILE": str(floor.ours.certificate),  # by which our own client checks the gateway
        }
        with (folder / "up.log").open("wb") as log:
            command = [sys.executable, "-m", "cli", "up", "--port", "0", "--ready-file", str(folder / "ready.json")]
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, env=environment(**self.variables)
            )
        end = time.monotonic() + READY
        while not (folder / "ready.json").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                stop(self.process)
                pytest.fail(f"tocsin up did not become ready:\n{(folder / 'up.log').read_text()[-4000:]}")
            time.sleep(0.05)
        self.ready: dict[str, Any] = json.loads((folder / "ready.json").read_text())
        self.variables["TOCSIN_URL"] = self.ready["gateway"]
        self.kafka = floor.kafka.address
        self.url = f"{self.ready['gateway']}/ws"
        self.secret = SECRET

    def tocsin(self, *arguments: str, within: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command from the folder in which the deployment runs."""
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            check=False, capture_output=True, text=True, timeout=within, cwd=self.folder,
            env=environment(**self.variables),
        )  # fmt: skip

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command whose output is read; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
            env=environment(**self.variables),
        )  # fmt: skip

    def metrics(self) -> str:
        """All pages that its processes serve."""
        places = [url.removesuffix("metrics") for url in self.ready["metrics"].values()]
        return "".join(_page(f"{place}{name}") for place in places for name in PAGES)


def _page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as not_ready:
        with not_ready:
            return not_ready.read().decode()


@pytest.fixture(scope="session")
def deployment(floor: Floor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    running = Deployment(floor, tmp_path_factory.mktemp("secured"))
    yield running
    stop(running.process)
