"""A deployment for one experiment: workers and gateways as processes of their own, on servers that experiments share.

It has its own prefix, keyspace (or SQLite file), secret and data folder, so experiments do not meet. What ends without
having been told to is started again after `back_after` s, as a supervisor does; `down` ends it for good until `up`.

    async with Cluster(servers, folder, workers=2, gateways=1, proxies=("kafka",)) as cluster:
        await cluster.kill("worker-0")            # kill -9; it comes back
        cluster.freeze("worker-1")                # SIGSTOP
        cluster.thaw("worker-1")                  # SIGCONT
        await cluster.down("worker-0")            # SIGTERM, and stays away
        await cluster.up("worker-0", TOCSIN_BACKLOG="50", mutant="name")   # again, otherwise
        await cluster.add("worker")               # another one; its name is returned
        await cluster.ready("worker-0")           # waits for its health page
        cluster.proxies["kafka"].hang()           # see `proof.proxy`
        cluster.rss("worker-0")                   # bytes; `files` counts descriptors
"""

import asyncio
import itertools
import os
import secrets
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from aiokafka.admin import AIOKafkaAdminClient

from proof.processes import Processes
from proof.proxy import Proxy
from proof.servers import Name, Servers
from schemas.errors import ServerFailed
from stack.child import Child
from stack.ports import LOOPBACK, free_port
from streams.settings import PREFIX

_ROOT: Final = Path(__file__).parents[1]
_STEP_WITHIN: Final = 90.0  # s

_numbers = itertools.count(1)


class Cluster(Processes):
    """Workers `worker-0`, … and gateways `gateway-0`, … that share one port.

    `store` is "cassandra" or "sqlite"; `proxies` names the servers that the processes reach by way of a proxy (the
    proxies run in the event loop of the experiment); `settings` are for every process. For the rest see `Processes`.
    """

    def __init__(
        self,
        servers: Servers,
        folder: Path,
        *,
        workers: int = 1,
        gateways: int = 1,
        store: Literal["cassandra", "sqlite"] = "cassandra",
        proxies: Sequence[Name] = (),
        back_after: float = 0.3,
        instances: bool = True,
        mutant: str | None = None,
        **settings: str,
    ) -> None:
        super().__init__(folder, back_after=back_after, instances=instances, mutant=mutant)
        self.servers = servers
        self.name = f"x{os.getpid()}_{next(_numbers)}"
        self.prefix = f"{self.name}."
        self.secret = secrets.token_urlsafe(32)
        self.port = free_port()
        self.proxies: dict[Name, Proxy] = {name: servers.proxy(name) for name in proxies}
        self.experiments = 0  # that were begun on it
        self._store = store
        self._settings = settings
        self._counts = {"worker": workers, "gateway": gateways}
        self._task: asyncio.Task[None] | None = None

    # -- where things are ----------------------------------------------------------------------------------------------

    @property
    def gateway(self) -> str:
        """The URL of the gateways, without a path."""
        return f"ws://{LOOPBACK}:{self.port}"

    @property
    def kafka(self) -> str:
        """Kafka for those that watch: never by way of a proxy."""
        return self.servers.address("kafka")

    def environment(self, settings: Mapping[str, str], *, direct: bool = False) -> dict[str, str]:
        """Return the environment of our processes; `direct`: past all proxies, as for an operator's command."""
        through = set() if direct else set(self.proxies)
        redis = self.servers.address("redis", proxied="redis" in through)
        cassandra = self.servers.address("cassandra", proxied="cassandra" in through)
        sqlite = f"sqlite:///{self.folder.absolute() / 'tocsin.db'}"
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            "PYTHONPATH": str(_ROOT),
            "PYTHONUNBUFFERED": "1",
            "TOCSIN_KAFKA": self.servers.address("kafka", proxied="kafka" in through),
            "TOCSIN_REDIS": f"redis://{redis}/0",
            "TOCSIN_STORE": sqlite if self._store == "sqlite" else f"cassandra://{cassandra}/{self.name}",
            "TOCSIN_SECRET": self.secret,
            "TOCSIN_PREFIX": self.prefix,
            "TOCSIN_PORT": str(self.port),
            "TOCSIN_SESSION_TIMEOUT": "6",
            "TOCSIN_DATA": str(self.folder / "data"),
            **self._settings,
            **settings,
        }

    # -- beginning and end ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self.close()
            raise
        return self

    async def _begin(self) -> None:
        await self.servers.start("kafka", "redis", *(("cassandra",) if self._store == "cassandra" else ()))
        for proxy in self.proxies.values():
            await proxy.listen()
        for step in ("store", "topics"):
            await self.tocsin(step, "apply")
        self._task = asyncio.create_task(self._keep_up())
        names = [await self.add(kind) for kind, count in self._counts.items() for _ in range(count)]
        await self.ready(*names)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything, bring the servers back, and remove what lies on them."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for name, program in self._programs.items():
            if program.running:
                self.thaw(name)
        for proxy in self.proxies.values():
            await proxy.heal()
        await self.servers.heal()
        gateways = [p for name, p in self._programs.items() if name.startswith("gateway")]
        for program in gateways:
            program.kill()
        await asyncio.gather(*(asyncio.to_thread(p.stop) for p in self._programs.values()))
        for proxy in self.proxies.values():
            await proxy.close()
        await self._remove_topics()
        shutil.rmtree(self.folder / "tables", ignore_errors=True)

    async def _remove_topics(self) -> None:
        """Let later experiments have a broker without our partitions; it starts more slowly with them."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            ours = [topic for topic in await admin.list_topics() if topic.startswith(self.prefix)]
            await admin.delete_topics(ours)
        finally:
            await admin.close()

    async def tocsin(self, *arguments: str, **settings: str) -> str:
        """Run a command of ours as an operator does, past all proxies; return what it printed.

        Raises `ServerFailed` if it does not end well.
        """
        log = self.folder / "logs" / f"{'-'.join(arguments[:2])}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "cli", *arguments]
        child = Child(
            f"tocsin {' '.join(arguments)}", command, log=log, environment=self.environment(settings, direct=True)
        )
        child.spawn()
        if not await asyncio.to_thread(child.wait, _STEP_WITHIN):
            child.kill()
        if child.code != 0:
            raise ServerFailed(child.obituary())
        return log.read_text()
