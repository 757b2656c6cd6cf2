"""The journal of replays in Kafka: read as a whole, written one acknowledged record at a time."""

import getpass
import os
import socket
from pathlib import Path

from cli.replay.reading import Reader
from schemas.replays import Marks, Run
from streams.producer import BatchProducer
from streams.replay_journal import TOPIC, Journal, journal_of, marks_record, run_record
from streams.settings import Settings


class Book:
    """The journal's topic, for writing; a call returns when Kafka has acknowledged."""

    def __init__(self, settings: Settings, producer: BatchProducer) -> None:
        self._topic = settings.prefix + TOPIC
        self._producer = producer

    async def note(self, run: Run) -> None:
        """Write how a run stands."""
        await self._producer.emit([run_record(self._topic, run)])

    async def settle(self, marks: Marks) -> None:
        """Write which dead letters are settled."""
        await self._producer.emit([marks_record(self._topic, marks)])


async def read_journal(reader: Reader, settings: Settings) -> Journal:
    """Return what the journal says now."""
    latest: dict[bytes | None, bytes | None] = {}
    async for page in reader.all_of(settings.prefix + TOPIC):
        latest.update((record.key, record.value) for record in page)
    return journal_of(latest)


def who() -> str:
    """Return who runs this command, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def alive(pid: int) -> bool:
    """Say whether a process of this machine is a replay, other than this one; numbers are used again."""
    if pid == os.getpid():
        return False
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"replay" in words or b"dlq" in words
