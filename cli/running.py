"""Finds the deployment that `tocsin up` runs from this folder, so that another shell need not be told its addresses.

`up` writes `.tocsin/up.json` into its working directory and removes it at its end. A file that a killed `up` left
behind is recognised by its process and ignored.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from schemas.addresses import host_port
from schemas.errors import SettingsError
from streams.settings import Settings, read_values, settings_from

UP_FILE: Final = Path(".tocsin") / "up.json"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` says of itself: addresses of its parts, its process, the file with the key of its tokens."""

    kafka: str
    gateway: str
    pid: int
    redis: str = ""
    store: str = ""
    prefix: str = ""
    idempotence: bool = True
    secret_file: str | None = None


def find_running(path: Path = UP_FILE) -> Running | None:
    """Return the deployment that runs from this folder; None if there is none, or what is left is stale or foreign."""
    try:
        running = msgspec.json.decode(path.read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None
    return running if _alive(running.pid) else None


def _alive(pid: int) -> bool:
    """Say whether the process lives and is ours by name: numbers of processes are used again."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False  # of another user, so not ours
    except (OSError, OverflowError):
        return False
    command = Path(f"/proc/{pid}/cmdline")
    try:
        return b"up" in command.read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc/self").exists()  # a system without /proc: the process lives, that must do


def client_settings(environment: Mapping[str, str], path: Path = UP_FILE) -> Settings:
    """Return the settings for commands that talk to a deployment.

    Where no Kafka is set, the deployment that runs from this folder fills in what is not set. Raises `SettingsError`.
    """
    values = read_values(environment)
    if "kafka" not in values and (running := find_running(path)):
        values = {**_filled_in(running), **values}
    return settings_from(values)


def _filled_in(running: Running) -> dict[str, Any]:
    values = {
        "kafka": running.kafka,
        "redis": running.redis,
        "store": running.store,
        "prefix": running.prefix,
        "url": running.gateway,
        "secret": _first_line(Path(running.secret_file)) if running.secret_file else None,
    }
    return {name: value for name, value in values.items() if value} | {"idempotence": running.idempotence}


def secret_of(settings: Settings) -> str:
    """Return the key of the tokens: the setting, or the file that `up` made in the data folder.

    Raises `SettingsError` if there is none.
    """
    found = settings.secret or _first_line(Path(settings.data) / "secret")
    if not found:
        raise SettingsError(
            "TOCSIN_SECRET is not set and no `tocsin up` runs from this folder, so no token can be made"
        )
    return found


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def socket_url(settings: Settings) -> str:
    """Return the WebSocket URL of the gateway, with its path `/ws` unless another one is set."""
    address = settings.url or host_port(settings.host, settings.port)
    try:
        parts = urlsplit(address if "://" in address else f"ws://{address}")
        named = parts.hostname and parts.port != 0
    except ValueError:  # such as ws://[::1 or a port of six digits
        named = None
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme) if named else ""
    if scheme not in ("ws", "wss"):
        raise SettingsError(f"TOCSIN_URL: {address} is not the URL of a gateway, such as ws://host:8080")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") or "/ws", "", ""))
