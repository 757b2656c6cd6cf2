"""The command `up`: servers, topics, workers and gateways in one supervised foreground process tree."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cli import up_lines
from cli.choosing import ENTRY, Choice, choose
from cli.gateway import check_entry
from cli.own_servers import OwnKafka, meet
from cli.running import UP_FILE
from cli.up_place import data_folder, only_one, secret_file, stoppable
from gateway.origins import LOOPBACK, SAME
from schemas.errors import ServerFailed
from stack.assembly import (
    KAFKA_PORT,
    PARTS,
    TOCSIN,
    Addresses,
    Kinds,
    Size,
    gateway_port,
    gateway_url,
    kafka_port,
    lacking,
    programs_of,
    servers_of,
    sqlite_url,
    steps_of,
    told,
)
from stack.data_folder import EMBEDDED, DataFolder
from stack.deployment import Deployment, follow, supervise
from stack.logs import Tail
from stack.ready_file import remove_own, write_json
from stack.servers import Server
from streams.security import without_password
from streams.settings import PREFIX, Settings, read_values

_EMBEDDED_TIMEOUT: Final = 6.0  # s: the embedded Kafka lets a group wait for half the session timeout
_ORIGINS: Final = f"{SAME},{LOOPBACK}"  # pages of this machine, such as those of a development server


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    `port` None: that of the settings; nothing listens on `api_port` yet.
    """

    choice: Choice = Choice()
    port: int | None = None
    api_port: int = 8081
    ready_file: Path | None = None
    gateways: int = 1
    workers: int = 1
    data: Path | None = None
    verbose: bool = False


def up(wanted: Wanted, command: Sequence[str] = TOCSIN) -> int:
    """Run a deployment until a signal; return 0 if it was up, else 128 and the number of the signal.

    `command` is what runs our own parts. Raises `SettingsError` or `ServerFailed`.
    """
    values = read_values(os.environ)
    kinds, settings = choose(wanted.choice, values)
    check_entry(settings)
    try:
        with stoppable(), only_one(), data_folder(wanted.data, kinds, settings) as folder:
            return _Up(wanted, kinds, settings, folder, command).run()
    except OSError as exc:
        raise ServerFailed(f"{exc.filename or 'a file'} cannot be written or read: {exc.strerror or exc}") from exc


class _Up:
    """One run of `up`."""

    def __init__(
        self, wanted: Wanted, kinds: Kinds, settings: Settings, folder: DataFolder, command: Sequence[str]
    ) -> None:
        self._wanted = wanted
        self._kinds = kinds
        self._settings = settings
        self._folder = folder
        self._told = False  # the summary was printed
        port = _kafka_port(wanted.choice.kafka_port) if kinds.kafka != "own" else 0
        self._servers = servers_of(kinds, folder.path, folder.logs, kafka_port=port)
        if reason := lacking(self._servers.values()):
            raise ServerFailed(reason)
        own = {"kafka": settings.kafka, "redis": settings.redis, "store": settings.store or sqlite_url(folder.path)}
        self._at = Addresses(**{**own, **{part: server.url for part, server in self._servers.items()}})
        self._size = Size(
            wanted.workers,
            wanted.gateways,
            settings.host,
            gateway_port(settings.host, settings.port if wanted.port is None else wanted.port),
            settings.drain,
            bool(settings.tls_cert),
        )
        self._secret = settings.secret or folder.secret()
        self._secret_file = secret_file(settings, folder)
        met = asyncio.run(meet(settings, kinds, say=up_lines.say))
        if met and not met.idempotent:
            up_lines.say(f"the Kafka at {settings.kafka} gives no producer ids, so TOCSIN_IDEMPOTENCE is false")
        self._idempotence = kinds.kafka != "embedded" and settings.idempotence and (met is None or met.idempotent)
        self._take_over(met)
        self._deployment = self._assembled(command)

    def _take_over(self, met: OwnKafka | None) -> None:
        """Make the data folder one of this Kafka."""
        kafka = f"cluster {met.cluster}" if met else {"embedded": EMBEDDED}.get(self._kinds.kafka, "real")
        with_store = self._kinds.store == "embedded"
        if previous := self._folder.belong_to(kafka, with_store=with_store):
            what = "store and tables" if with_store else "tables"
            up_lines.say(f"the embedded Kafka starts empty, so the {what} of the run before are now in {previous}")

    def _assembled(self, command: Sequence[str]) -> Deployment:
        environment = told(self._environment(), self._at, self._secret)
        programs = programs_of(self._size, environment, self._folder.path, self._folder.logs, command)
        steps = steps_of(environment, self._folder.logs, command)
        servers: list[Server] = list(self._servers.values())
        return Deployment(servers, steps, programs, say=up_lines.say, came=self._came, changed=self._announce)

    def run(self) -> int:
        """Run until a signal. Raises `ServerFailed`."""
        if self._wanted.ready_file:
            self._wanted.ready_file.unlink(missing_ok=True)  # of a run before, which somebody might take for this one
        for server in self._deployment.servers:
            server.fetch()
        for part in PARTS:
            if getattr(self._kinds, part) == "own" and part != "store":  # the store is looked at more closely
                self._came(part, 0.0)
        try:
            return asyncio.run(self._run())
        finally:
            remove_own(UP_FILE, os.getpid())
            if self._wanted.ready_file:
                remove_own(self._wanted.ready_file, os.getpid())

    async def _run(self) -> int:
        async with self._shown() if self._wanted.verbose else contextlib.nullcontext():
            return await supervise(self._deployment, stopping=lambda: up_lines.say("stopping; once more kills at once"))

    @contextlib.asynccontextmanager
    async def _shown(self) -> AsyncIterator[None]:
        logs = {part.name: part.log for part in self._deployment.servers}
        logs |= {part.name: part.log for part in self._deployment.programs}
        shown = asyncio.create_task(follow({name: Tail(log) for name, log in logs.items()}, up_lines.show_log))
        yield
        shown.cancel()

    def _environment(self) -> Mapping[str, str]:
        """Return our own environment, without entry to servers that we start, with what this kind of Kafka needs."""
        fields = [field for part in PARTS if getattr(self._kinds, part) != "own" for field in ENTRY[part]]
        names = {f"{PREFIX}{field.upper()}" for field in fields}
        files = {f"{name}_FILE" for name in names}
        environment = {name: value for name, value in os.environ.items() if name not in files} | dict.fromkeys(
            names, ""
        )
        if self._kinds.kafka != "own":
            environment["TOCSIN_KAFKA_SECURITY"] = "plaintext"
        environment["TOCSIN_IDEMPOTENCE"] = str(self._idempotence).lower()
        if self._kinds.kafka == "embedded" and self._settings.session_timeout == Settings().session_timeout:
            environment["TOCSIN_SESSION_TIMEOUT"] = str(_EMBEDDED_TIMEOUT)
        if not self._settings.origins:
            environment["TOCSIN_ORIGINS"] = _ORIGINS
        return environment

    def _came(self, name: str, seconds: float) -> None:
        part = next((part for part, server in self._servers.items() if server.name == name), name)
        up_lines.show(up_lines.came(part, self._at, self._kinds, self._socket(), seconds))

    def _socket(self) -> str:
        return f"{gateway_url(self._size)}/ws"

    def _announce(self) -> None:
        """Write the ready files anew; the first time say how to try it."""
        try:
            self._write_files()
        except OSError as exc:
            if not self._told:
                raise
            up_lines.say(f"{exc.filename} could not be written: {exc.strerror}; it does not name the processes of now")

    def _write_files(self) -> None:
        content = self._content()
        near = {"prefix": self._settings.prefix, "idempotence": self._idempotence, "pid": os.getpid()}
        write_json(UP_FILE, {**content, **near}, private=True)  # URLs may hold passwords
        if not self._told:
            for line in self._summary():
                up_lines.show(line)
            self._told = True
        if self._wanted.ready_file:  # last, since whoever waits for it may look at all else then
            shown = {"redis": without_password(content["redis"]), "store": without_password(content["store"])}
            write_json(self._wanted.ready_file, content | shown)

    def _content(self) -> dict[str, Any]:
        return {
            **msgspec.structs.asdict(self._at),
            "gateway": gateway_url(self._size),
            "api": None,
            "secret_file": self._secret_file,
            "metrics": {program.name: program.metrics_url for program in self._deployment.programs},
            "pids": self._deployment.pids(),
        }

    def _summary(self) -> Sequence[str]:
        return up_lines.summary(
            kinds=self._kinds,
            at=self._at,
            socket=self._socket(),
            secret=self._secret_file or "that of TOCSIN_SECRET",
            folder=self._folder.path,
            temporary=self._folder.temporary,
        )


def _kafka_port(wanted: int | None) -> int:
    port = kafka_port(wanted)
    if wanted is None and port != KAFKA_PORT:
        up_lines.say(f"port {KAFKA_PORT} is taken by another process, so kafka will be on {port}; --kafka-port chooses")
    return port
