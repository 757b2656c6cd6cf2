"""`tocsin listen`: a device on the terminal, which prints each entry once, in order, with its latency."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from cli.connection import Connection
from cli.device import Cursors, Device, Step
from cli.outputs import Entry
from cli.running import socket_url
from cli.terminal import remark, say, show
from cli.tokens import token_by_settings
from schemas.errors import SettingsError
from schemas.frames import NotificationFrame
from streams.settings import Settings

DEFAULT_DEVICE = "cli"


class CursorFile:
    """Cursors on disk, so that a device goes on where it was; written as a whole, before they are acknowledged."""

    def __init__(self, path: Path, user: str, device: str) -> None:
        self.path = path
        self.cursors = self._read(user, device)

    def _read(self, user: str, device: str) -> Cursors:
        try:
            cursors = msgspec.json.decode(self.path.read_bytes(), type=Cursors)
        except FileNotFoundError:
            return Cursors(user=user, device=device)
        except (OSError, msgspec.MsgspecError) as exc:
            raise SettingsError(f"{self.path} holds no cursors: {exc}") from None
        if (cursors.user, cursors.device) != (user, device):
            raise SettingsError(f"{self.path} is of user {cursors.user!r}, device {cursors.device!r}")
        return cursors

    def write(self) -> None:
        """Replace the file. Raises `SettingsError` if that cannot be."""
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            fresh.write_bytes(msgspec.json.encode(self.cursors))
            fresh.replace(self.path)
        except OSError as exc:
            raise SettingsError(f"{self.path} cannot be written: {exc.strerror}") from None


def latency_ms(entry: NotificationFrame, now: float) -> float:
    """Return how long before `now` (s since 1970) Kafka took the entry, in ms."""
    return (now - datetime.fromisoformat(entry.created_at).timestamp()) * 1000


def line_of(entry: NotificationFrame, now: float) -> str:
    """Return an entry for people."""
    data = None if entry.data is msgspec.UNSET else bytes(entry.data).decode()
    text = " - ".join(part for part in (entry.title, entry.body, data) if part)
    kind = f" [{entry.kind}]" if entry.kind else ""
    return f"{entry.log} {entry.seq}{kind} {text}  ({latency_ms(entry, now):.0f} ms)"


def entry_of(frame: NotificationFrame, now: float) -> Entry:
    """Return an entry as `--json` prints it."""
    return Entry(**msgspec.structs.asdict(frame), latency_ms=round(latency_ms(frame, now), 1))


async def listen(
    settings: Settings, user: str, *, device: str | None, token: str | None, cursor_file: Path | None, as_json: bool
) -> int:
    """Print entries until interrupted. Raises `Unreachable`, `BadToken` or `Ended`."""
    device_id = device or (None if token else DEFAULT_DEVICE)
    file = CursorFile(cursor_file, user, device_id or "") if cursor_file else None
    state = file.cursors if file else Cursors(user=user, device=device_id or "")

    async def on_step(step: Step) -> None:
        for entry in step.show:
            if as_json:
                show(entry_of(entry, time.time()))
            else:
                say(line_of(entry, time.time()))
        if file:
            file.write()
        if step.note:
            remark(step.note)

    connection = Connection(
        socket_url(settings),
        Device(state),
        token=_tokens(settings, user, device_id, token),
        on_step=on_step,
        say=remark,
        device_id=device_id,
    )
    await connection.run()
    return 0


def _tokens(settings: Settings, user: str, device: str | None, given: str | None) -> Callable[[], str]:
    if given:
        return lambda: given
    token_by_settings(settings, user, device=device)  # what is missing is said now, and not by the connection
    return lambda: token_by_settings(settings, user, device=device)
