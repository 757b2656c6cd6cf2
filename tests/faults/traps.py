"""Traps: faults at a chosen effect, inside the process that performs it.

An experiment lays a trap, and the first process that is about to perform that effect springs it (once): it is killed;
is late (it stops as by SIGSTOP, performs the effect when it is thawed, and is killed then, before it does anything
else); is late and broken off (the same, but it appends only the first row of each log); holds the effect back until it
is let go; fails; or loses what it was given. Processes have traps when they run as the mutant `traps`
(tests/faults/mutant.py) with `TRAPS`, a folder, in their environment.

    traps.lay("append", "kill")
    run.load.send("ann")
    await run.wait(lambda: traps.sprung("append"), "the trap is sprung")

Effects: `append` (rows and heads to the store), `appends` (the same, with more than one row of a log), `cursors` (to
the store), and `fetch`: a fetch from a lane's topic, whose first record may be lost.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from schemas.errors import StoreError
from store.cassandra import CassandraStore
from store.sqlite import SqliteStore
from streams.consumer import Consumer

VARIABLE: Final = "TRAPS"

Fate = Literal["kill", "late", "broken off", "hold", "fail", "lose"]
LATE: Final = ("late", "broken off")
_LOOK_EVERY: Final = 0.02  # s


class Traps:
    """The experiment's end of a folder of traps."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def lay(self, effect: str, fate: Fate) -> None:
        """Lay a trap for the next process that performs the effect."""
        self.clear()
        unfinished = self._folder / f"{effect}.unfinished"
        unfinished.write_text(fate)
        unfinished.rename(self._folder / effect)

    def sprung(self, effect: str) -> bool:
        """Return whether a process has come upon the trap."""
        return (self._folder / f"{effect}.sprung").exists()

    def pid(self, effect: str) -> int:
        """Return which process that was."""
        return int((self._folder / f"{effect}.sprung").read_text())

    def performed(self, effect: str, pid: int) -> bool:
        """Return whether a process has performed the effect after all."""
        return (self._folder / f"{effect}.performed-{pid}").exists()

    def clear(self) -> None:
        """Take all traps up and let what is held go on."""
        for file in self._folder.iterdir():
            file.unlink(missing_ok=True)


def _come_upon(effect: str) -> str:
    """Return the fate that a trap holds for who performs the effect; empty if there is none."""
    trap = Path(os.environ[VARIABLE], effect)
    try:
        fate = trap.read_text()
        trap.unlink()  # of two processes one succeeds
    except FileNotFoundError:
        return ""
    trap.with_suffix(".noted").write_text(str(os.getpid()))
    trap.with_suffix(".noted").rename(trap.with_suffix(".sprung"))
    return fate


async def _pass(effect: str) -> str:
    """Come by a trap before an effect, and suffer it; return its fate, empty if there was none."""
    fate = _come_upon(effect)
    if fate == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate in LATE:
        os.kill(os.getpid(), signal.SIGSTOP)
    while fate == "hold" and _is_held(effect):  # noqa: ASYNC110 - another process lets go
        await asyncio.sleep(_LOOK_EVERY)
    return fate


def _is_held(effect: str) -> bool:
    return Path(os.environ[VARIABLE], f"{effect}.sprung").exists()


def _note_performed(effect: str) -> None:
    Path(os.environ[VARIABLE], f"{effect}.performed-{os.getpid()}").touch()


def _names(effect: str, given: Any) -> list[str]:
    """Return by what names an effect goes; by none if there is nothing to perform."""
    if effect == "append" and any(len(each.rows) > 1 for each in given):
        return ["append", "appends"]
    return [effect] if given else []


def _guarded(kind: type, method: str, effect: str) -> None:
    """Let a method come by a trap first."""
    perform: Callable[..., Any] = getattr(kind, method)

    async def guarded(self: Any, *arguments: Any) -> Any:
        *before, given = arguments
        fate = ""
        for name in _names(effect, given):
            fate = fate or await _pass(name)
        if fate == "fail":
            raise StoreError("on purpose")
        if fate == "broken off":
            given = [msgspec.structs.replace(each, rows=each.rows[:1]) for each in given]
        result = await perform(self, *before, given)
        if fate:
            _note_performed(effect)
        if fate in LATE:  # it would read on, and append again what its successor has appended
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(kind, method, guarded)


def set_up() -> None:
    """Give this process its traps; after all that replaces the effects themselves."""
    for store in (CassandraStore, SqliteStore):
        _guarded(store, "append", "append")
        _guarded(store, "put_cursors", "cursors")
    deliver = Consumer._deliver

    async def losing(self: Any, records: Any, epoch: int) -> None:
        lanes = [tp for tp in records if ".notifications." in tp.topic or tp.topic.startswith("notifications.")]
        if lanes and await _pass("fetch"):
            records = {tp: items[1:] if tp == lanes[0] else items for tp, items in records.items()}
        await deliver(self, records, epoch)

    Consumer._deliver = losing  # type: ignore[method-assign]
