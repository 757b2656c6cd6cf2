"""Drops messages of Redis on their way: for `Proxy.alter`, a filter of what a client of Redis says.

In the place of a `PUBLISH` that is chosen Redis is asked to answer 1, so the client is told that one subscriber got it.
"""

from collections.abc import Callable
from typing import Final

from proof.proxy import Filter

Chosen = Callable[[bytes, bytes], bool]  # (channel, message) → drop it?

_ANSWER_1: Final = b"*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n"


def dropping(chosen: Chosen) -> Callable[[], Filter]:
    """Return what makes a filter for each connection."""
    return lambda: _Publishes(chosen)


class _Publishes:
    """Takes one client's bytes in any pieces; a command that is not whole waits for its rest."""

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self._rest = b""

    def __call__(self, data: bytes) -> bytes:
        data, position = self._rest + data, 0
        passed: list[bytes] = []
        while (end := _end_of_command(data, position)) is not None:
            command = data[position:end]
            passed.append(_ANSWER_1 if self._drops(command) else command)
            position = end
        self._rest = data[position:]
        return b"".join(passed)

    def _drops(self, command: bytes) -> bool:
        parts = _parts(command)
        return len(parts) == 3 and parts[0].upper() == b"PUBLISH" and self._chosen(parts[1], parts[2])


def _end_of_command(data: bytes, start: int) -> int | None:
    """Return where the command that begins at `start` ends; None if it is not whole. RESP: an array of bulk strings."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    if data[start : start + 1] != b"*":
        return line + 2  # an inline command
    position = line + 2
    for _ in range(int(data[start + 1 : line])):
        line = data.find(b"\r\n", position)
        if line < 0:
            return None
        position = line + 2 + int(data[position + 1 : line]) + 2
        if position > len(data):
            return None
    return position


def _parts(command: bytes) -> list[bytes]:
    """Return the bulk strings of a whole command."""
    if not command.startswith(b"*"):
        return command.split()
    parts, position = [], command.index(b"\r\n") + 2
    while position < len(command):
        line = command.index(b"\r\n", position)
        start, size = line + 2, int(command[position + 1 : line])
        parts.append(command[start : start + size])
        position = start + size + 2
    return parts
