"""Starts crowds and speaks with them: several processes behave as one."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from bench.native import built_c
from schemas.errors import ServerFailed

FOLDER: Final = Path(__file__).parent
PORTS: Final = 20_000  # connections from one source address to one port
FILES: Final = 18_000  # connections of one process


class Speech(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a server is spoken to, as `client.h` explains; {n}, {token}, {epoch} and {seq} are filled in."""

    request: str
    first: str = ""
    again: str = ""
    joined: str = ""
    ping: str = ""
    pong: str = ""
    ack: str = ""
    epoch: str = ""
    seq: str = ""

    def options(self) -> list[str]:
        """Return the command line's options."""
        given: dict[str, str] = msgspec.to_builtins(self)
        return [text for name, value in given.items() for text in (f"--{name}", value)]


class Opened(msgspec.Struct, frozen=True):
    """All clients that could be are in, after so many seconds."""

    joined: int
    seconds: float
    failed: int


class Seen(msgspec.Struct, frozen=True):
    """What clients saw since the last report.

    `behind`: messages that should have come (`Crowd.expect`) and did not; `latency`: µs since a message was due, how
    often; `cpu`: seconds that the crowd itself has used so far.
    """

    connected: int
    received: int
    lost: int
    repeated: int
    behind: int
    frames: int
    bytes: int
    acks: int
    joins: int
    closes: int
    last_close: int
    cpu: float
    latency: list[tuple[int, int]]

    def percentile(self, share: float) -> float:
        """Return a percentile of the latency, in ms."""
        wanted, seen = share * sum(count for _, count in self.latency), 0
        for value, count in self.latency:
            seen += count
            if seen > wanted:
                return value / 1000
        return self.latency[-1][0] / 1000 if self.latency else 0.0

    @property
    def wrong(self) -> int:
        """Messages that were lost or repeated or came out of order."""
        return self.lost + self.repeated + self.behind


def _merged(seen: Sequence[Seen]) -> Seen:
    latency: Counter[int] = Counter()
    for one in seen:
        latency.update(dict(one.latency))
    sums = {name: sum(getattr(one, name) for one in seen) for name in Seen.__struct_fields__ if name != "latency"}
    sums["last_close"] = max(one.last_close for one in seen)
    return Seen(**sums, latency=sorted(latency.items()))


class Crowd:
    """Clients `0 .. count-1`; the tokens are theirs, in order."""

    def __init__(
        self,
        speech: Speech,
        addresses: Sequence[str],
        count: int,
        *,
        tokens: Sequence[str] = (),
        cpus: Collection[int] = (),
        at_once: int = 64,
        ack_every: float = 1.0,
    ) -> None:
        self._speech = speech
        self._addresses = addresses
        self._count = count
        self._tokens = tokens
        self._cpus = cpus
        self._options = ["--at-once", str(at_once), "--ack-every", str(ack_every)]
        self._children: list[asyncio.subprocess.Process] = []
        self._counts: list[int] = []  # clients of each

    async def __aenter__(self) -> Self:
        program = await asyncio.to_thread(built_c, "crowd", sorted(FOLDER.glob("*.[ch]")))
        for first in range(0, self._count, FILES):
            await self._spawn(program, first, min(FILES, self._count - first))
        return self

    async def _spawn(self, program: Path, first: int, count: int) -> None:
        sources = -(-count // (PORTS * len(self._addresses)))
        with NamedTemporaryFile("w", prefix="tokens-") as file:
            file.writelines(f"{token}\n" for token in self._tokens[first : first + count])
            file.flush()
            options = [text for address in self._addresses for text in ("--address", address)]
            options += ["--count", str(count), "--first-number", str(first)]
            options += ["--sources", str(max(2, sources)), "--first-source", str(len(self._children) * 16)]
            options += ["--tokens", file.name] if self._tokens else []
            child = await asyncio.create_subprocess_exec(
                program,
                *options,
                *self._options,
                *self._speech.options(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sys.stderr,
                limit=1 << 20,
            )
            self._children.append(child)
            self._counts.append(count)
            if self._cpus:
                os.sched_setaffinity(child.pid, self._cpus)
            await self._ask(child, "report")  # the tokens are read then

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            if child.returncode is None:
                child.kill()
            await child.wait()

    async def _ask(self, child: asyncio.subprocess.Process, command: str) -> Any:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{command}\n".encode())
        line = await child.stdout.readline()
        if not line:
            raise ServerFailed(f"the crowd ended with {await child.wait()} at {command!r}")
        return msgspec.json.decode(line)

    async def _ask_all(self, command: str) -> list[Any]:
        return await asyncio.gather(*(self._ask(child, command) for child in self._children))

    async def open(self, seconds: float) -> Opened:
        """Connect all that are not connected."""
        answers = msgspec.convert(await self._ask_all(f"open {seconds}"), list[Opened])
        return Opened(
            sum(one.joined for one in answers), max(one.seconds for one in answers), sum(one.failed for one in answers)
        )

    async def expect(self, number: int, seconds: float, *, clients: int | None = None) -> bool:
        """Wait until all clients, or the first so many, have been sent message `number`; False: not all were."""
        left = self._count if clients is None else clients
        asked = []
        for child, count in zip(self._children, self._counts, strict=True):
            if left > 0:
                asked.append(self._ask(child, f"expect {number} {seconds} {min(left, count)}"))
            left -= count
        return all(answer["all"] for answer in await asyncio.gather(*asked))

    async def cut(self) -> None:
        """Reset every connection."""
        await self._ask_all("cut")

    async def slow(self, every: int) -> None:
        """Let every so manieth client stop to read; 0: all read again."""
        await self._ask_all(f"slow {every}")

    async def report(self) -> Seen:
        """Return what was seen since the last report."""
        return _merged(msgspec.convert(await self._ask_all("report"), list[Seen]))
