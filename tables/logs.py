"""Table `logs`: the state of every log that this worker appends to.

Single writer: the inbox agents (`agents/inbox.py`), under the turnstile. The connections agent only reads it.

The table is a cache of a fold of the store's rows. A state says under which epoch of the partition it was written; only
the epoch that the worker holds now is believed, and everything else is read from the store again at first touch. Every
assignment has epochs of its own, so no other worker and no later assignment could use what is here: the table has no
changelog, and is empty at each start. The states used last are objects in memory, the others are in files.

It had one once. Faust shares topics out by who subscribes to them, so while workers that still write it may be in the
group, all have to subscribe to it: else sources and changelogs of a partition go to different workers.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streams.inbox import LogState
from tables.kept import UNKNOWN, Kept
from tables.rocks import RocksTable
from tables.scratch import Scratch

LEAVING: Final = 256  # states that go to the files at once

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LogState).decode


def subscribe_to_changelog(app: Any, *, partitions: int) -> None:
    """Subscribe to the changelog that earlier versions write."""
    RocksTable(app, "logs", partitions=partitions)


class LogTable:
    """States of logs by the log's key."""

    def __init__(self, files: Scratch) -> None:
        self._files = files
        self._leaving: dict[str, LogState] = {}  # no more in memory for their own sake, and not yet in the files
        self._kept: Kept[str, LogState] = Kept(self._leaving.__setitem__)

    def get(self, log: str, epoch: int) -> LogState | None:
        """Return the state of a log if it was written under `epoch`, else None: ask the store.

        Raises `TableBroken`.
        """
        state: Any = self._kept.get(log)
        if state is UNKNOWN:
            state = self._found(log)
        return state if state is not None and state.epoch == epoch else None

    def _found(self, log: str) -> LogState | None:
        """Return a state that had left, and keep it again."""
        state = self._leaving.pop(log, None)
        if state is None and (found := self._files.get(log.encode())) is not None:
            state = _decode(found)
        if state is not None:
            self._kept.keep(log, state)
            self._make_room()
        return state

    def write(self, states: Mapping[str, LogState]) -> None:
        """Take states as they are now. Raises `TableBroken` or `DiskFull`."""
        for log, state in states.items():
            self._kept.keep(log, state)
        self._make_room()

    def _make_room(self) -> None:
        if len(self._leaving) >= LEAVING:
            self._files.write((log.encode(), _encode(state)) for log, state in self._leaving.items())
            self._leaving.clear()

    def clear(self) -> None:
        """Forget everything: the epochs under which it was written are given up."""
        self._kept.clear()
        self._leaving.clear()
        self._files.clear()
