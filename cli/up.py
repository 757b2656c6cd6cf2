"""The command `up`: servers, topics, workers and gateways in one supervised foreground process tree."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cli.running import UP_FILE
from stack.assembly import (
    TOCSIN,
    Addresses,
    Size,
    Stack,
    gateway_port,
    gateway_url,
    programs_of,
    servers_of,
    sqlite_url,
    steps_of,
    told,
)
from stack.data_folder import DataFolder
from stack.deployment import Deployment, follow, supervise
from stack.logs import Tail
from stack.ready_file import remove_own, write_json
from stack.servers import Server
from streams.security import without_password
from streams.settings import Settings, read_settings

_EMBEDDED_TIMEOUT: Final = 6.0  # s: the embedded Kafka lets a group wait for half the session timeout
_OF_OTHERS: Final = (
    *(f"TOCSIN_KAFKA_{name}" for name in ("SECURITY", "USER", "PASSWORD", "CA", "CERT", "KEY")),
    *(f"TOCSIN_{server}_{name}" for server in ("REDIS", "STORE") for name in ("PASSWORD", "CA")),
)  # how to get into servers that are not ours; those that `up` starts ask for nothing


def up(
    stack: Stack | None,
    port: int,
    api_port: int,  # noqa: ARG001 - fixed surface: no part listens on it yet
    ready_file: Path | None,
    gateways: int,
    workers: int,
    data: Path | None,
    verbose: bool,
    command: Sequence[str] = TOCSIN,
) -> int:
    """Run a deployment until SIGINT or SIGTERM and return 0.

    Without `stack` the servers are those of the settings. `command` is what runs our own parts. Raises `SettingsError`
    or `ServerFailed`.
    """
    settings = read_settings(os.environ)
    with DataFolder(_folder(stack, settings, data)) as folder:
        if stack == "embedded" and (previous := folder.forget_run()):
            _say(f"the embedded Kafka starts empty, so the store and tables of the run before are now in {previous}")
        tls = bool(settings.tls_cert)
        size = Size(workers, gateways, settings.host, gateway_port(settings.host, port), settings.drain, tls)
        _Up(stack, settings, folder, size, ready_file, command).run(verbose=verbose)
    return 0


def _folder(stack: Stack | None, settings: Settings, data: Path | None) -> Path | None:
    """Return the data folder; None, a temporary one, where servers are started and nobody asked for a place."""
    if data is not None or stack is None:
        return data or Path(settings.data)
    chosen = "TOCSIN_DATA" in os.environ or settings.data != Settings().data
    return Path(settings.data) if chosen else None


class _Up:
    """One run of `up`."""

    def __init__(
        self,
        stack: Stack | None,
        settings: Settings,
        folder: DataFolder,
        size: Size,
        ready_file: Path | None,
        command: Sequence[str],
    ) -> None:
        self._stack = stack
        self._settings = settings
        self._folder = folder
        self._size = size
        self._ready_file = ready_file
        self._told = False  # the summary was printed
        store = settings.store or sqlite_url(folder.path)
        servers: list[Server] = []
        self._at = Addresses(settings.kafka, settings.redis, store)
        if stack is not None:
            servers, self._at = servers_of(stack, folder.path, folder.logs)
        environment = told(self._environment(), self._at, settings.secret or folder.secret())
        programs = programs_of(size, environment, folder.path, folder.logs, command)
        steps = steps_of(environment, folder.logs, command)
        self._deployment = Deployment(servers, steps, programs, say=_say, changed=self._announce)

    def run(self, *, verbose: bool) -> None:
        """Run until a signal. Raises `ServerFailed`."""
        if self._ready_file:
            self._ready_file.unlink(missing_ok=True)  # of a run before, which somebody might take for this one
        for server in self._deployment.servers:
            server.fetch()
        try:
            asyncio.run(self._run(verbose=verbose))
        finally:
            remove_own(UP_FILE, os.getpid())
            if self._ready_file:
                remove_own(self._ready_file, os.getpid())

    async def _run(self, *, verbose: bool) -> None:
        async with self._shown() if verbose else contextlib.nullcontext():
            await supervise(self._deployment, stopping=lambda: _say("stopping; once more kills at once"))

    @contextlib.asynccontextmanager
    async def _shown(self) -> AsyncIterator[None]:
        logs = {part.name: part.log for part in self._deployment.servers}
        logs |= {part.name: part.log for part in self._deployment.programs}
        shown = asyncio.create_task(follow({name: Tail(log) for name, log in logs.items()}, _show))
        yield
        shown.cancel()

    def _environment(self) -> Mapping[str, str]:
        """Return our own environment, without passwords for servers of our own, with what the embedded Kafka needs."""
        if self._stack is None:
            return os.environ
        if self._stack == "real":
            return _without_entry(os.environ)
        # it gives no producer ids; on loopback an answer is lost only together with the broker itself
        suited = {**_without_entry(os.environ), "TOCSIN_IDEMPOTENCE": "false"}
        if self._settings.session_timeout == Settings().session_timeout:
            suited["TOCSIN_SESSION_TIMEOUT"] = str(_EMBEDDED_TIMEOUT)
        return suited

    def _announce(self) -> None:
        """Write the ready files anew; the first time say how to try it."""
        content = self._content()
        secret_file = "" if self._settings.secret else str(self._folder.secret_file)
        idempotence = self._stack != "embedded" and self._settings.idempotence
        near = {"prefix": self._settings.prefix, "secret_file": secret_file, "idempotence": idempotence}
        write_json(UP_FILE, {**content, **near, "pid": os.getpid()}, private=True)  # URLs may hold passwords
        if not self._told:
            self._told = True
            print(self._summary(), flush=True)
        if self._ready_file:  # last, since whoever waits for it may look at all else then
            shown = {"redis": without_password(content["redis"]), "store": without_password(content["store"])}
            write_json(self._ready_file, content | shown)

    def _content(self) -> dict[str, Any]:
        return {
            **msgspec.structs.asdict(self._at),
            "gateway": gateway_url(self._size),
            "api": None,
            "metrics": {program.name: program.metrics_url for program in self._deployment.programs},
            "pids": self._deployment.pids(),
        }

    def _summary(self) -> str:
        lines = [
            f"Tocsin is up{f' ({self._stack} servers)' if self._stack else ''}.",
            f"  gateway  {gateway_url(self._size)}/ws",
            f"  kafka    {self._at.kafka}",
            f"  data     {self._folder.path}{' (removed at the end)' if self._folder.temporary else ''}",
            "Try it from this folder in two more shells:",
            "  tocsin listen u1",
            "  tocsin send u1 'hello'",
            "Ctrl-C ends everything.",
        ]
        return "\n".join(lines)


def _without_entry(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for the servers that `up` starts itself, whatever the settings say of others."""
    files = {f"{name}_FILE" for name in _OF_OTHERS}
    empty = {**dict.fromkeys(_OF_OTHERS, ""), "TOCSIN_KAFKA_SECURITY": "plaintext"}
    return {name: value for name, value in environment.items() if name not in files} | empty


def _say(line: str) -> None:
    print(f"tocsin: {line}", file=sys.stderr, flush=True)


def _show(name: str, line: str) -> None:
    print(f"{name:>14} | {line}", file=sys.stderr, flush=True)
