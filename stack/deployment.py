"""A whole deployment in one process tree: servers, then the steps that prepare them, then our own programs."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from schemas.errors import ServerFailed
from stack.child import Child
from stack.logs import Tail, last_lines
from stack.part import Part
from stack.program import Program
from stack.servers import Server
from stack.supervisor import Supervisor
from stack.waits import Waits, so_far

_LOOK_EVERY: Final = 0.1  # s
_STEP_WITHIN: Final = 60.0  # s
_READY_WITHIN: Final = 90.0  # s from the first program's start until all are ready
_GIVE_UP_AFTER: Final = 3  # ends in a row: no more attempts while the deployment starts, and its last words are shown
_LAST_WORDS: Final = 5  # lines of a log
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Deployment:
    """Servers, steps (which run to their end one by one) and groups of programs, started in this order.

    The last group ends first, the servers last. `say` is given one line for whatever happens; `came` the name of each
    part that is ready for the first time and the seconds that it took; `changed` is called when all are ready, and
    whenever a part has come back.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        steps: Sequence[Child],
        programs: Sequence[Sequence[Program]],
        *,
        say: Callable[[str], None],
        came: Callable[[str, float], None],
        changed: Callable[[], None],
    ) -> None:
        self.servers = list(servers)
        self.programs = [program for group in programs for program in group]
        self._steps = list(steps)
        self._groups: list[Sequence[Part]] = [servers, *programs]
        self._parts: dict[str, Part] = {part.name: part for group in self._groups for part in group}
        self._say = say
        self._came = came
        self._changed = changed
        self._waits = Waits()
        self._supervisor = Supervisor()
        self._coming: set[str] = set()  # not ready, or not ready again
        self.started = False  # all were ready once

    def pids(self) -> dict[str, int]:
        """Return the process ids by role."""
        return {part.role: part.pid for part in self._parts.values()}

    async def run(self) -> None:
        """Start everything and keep it up until the task is cancelled. Raises `ServerFailed` where that is no use."""
        teller = asyncio.create_task(self._tell())
        try:
            await self._start()
            while True:
                await self._look()
        finally:
            teller.cancel()

    async def _start(self) -> None:
        for server in self.servers:
            self._spawn(server)
        await asyncio.gather(*(self._wait(server) for server in self.servers))
        for step in self._steps:
            await self._perform(step)
        for program in self.programs:
            self._spawn(program)
        deadline = time.monotonic() + _READY_WITHIN
        while self._coming:
            await self._look()
            if self._coming and time.monotonic() > deadline:
                raise self._late()
        self.started = True
        self._changed()

    async def _tell(self) -> None:
        """Say what is waited for, now and then, as long as there is something."""
        while True:
            for name, taken in self._waits.overdue(time.monotonic()):
                part = self._parts.get(name)
                self._say(so_far(f"waiting for {name}", taken, part.unready if part else ""))
            await asyncio.sleep(_LOOK_EVERY)

    async def stop(self) -> None:
        """End everything, the last group first, each group at once."""
        for step in self._steps:
            step.kill()
        for group in reversed(self._groups):
            await asyncio.gather(*(asyncio.to_thread(part.stop) for part in group))

    def kill(self) -> None:
        """End everything at once."""
        for part in self._parts.values():
            part.kill()

    def _spawn(self, part: Part) -> None:
        part.spawn()
        if part.name not in self._coming:
            self._await(part)
        self._supervisor.started(part.name, time.monotonic())

    def _await(self, part: Part) -> None:
        self._coming.add(part.name)
        self._waits.began(part.name, time.monotonic())

    def _is_there(self, part: Part) -> None:
        self._coming.discard(part.name)
        taken = self._waits.over(part.name, time.monotonic())
        if not self.started:
            self._came(part.name, taken)

    async def _wait(self, server: Server) -> None:
        while not await asyncio.to_thread(server.ready):  # noqa: ASYNC110 - another process: nobody can set an event
            await asyncio.sleep(_LOOK_EVERY)
        self._is_there(server)

    async def _perform(self, step: Child) -> None:
        step.spawn()
        self._waits.began(step.name, time.monotonic())
        deadline = time.monotonic() + _STEP_WITHIN
        while step.running:
            if time.monotonic() > deadline:
                raise ServerFailed(f"{step.name} took more than {_STEP_WITHIN:.0f} s (log: {step.log})")
            await asyncio.sleep(_LOOK_EVERY)
        taken = self._waits.over(step.name, time.monotonic())
        if step.code != 0:
            raise ServerFailed(step.obituary())
        self._came(step.name, taken)

    async def _look(self) -> None:
        """Notice who ended, start who is due, ask who is coming."""
        for name in self._supervisor.up(self._parts):
            if not self._parts[name].running:
                self._bury(self._parts[name])
        for name in self._supervisor.due(time.monotonic()):
            self._restart(self._parts[name])
        if self._coming:
            await self._welcome(sorted(self._coming))
        await asyncio.sleep(_LOOK_EVERY)

    def _bury(self, part: Part) -> None:
        if not part.durable:
            raise ServerFailed(
                f"{part.obituary()}; it held all records in memory, so everything has to start anew: run `up` again"
            )
        now = time.monotonic()
        if part.name not in self._coming:
            self._await(part)
        life = self._supervisor.ended(part.name, now)
        if life.deaths >= _GIVE_UP_AFTER:
            for line in last_lines(part.log, _LAST_WORDS):
                self._say(f"  {part.name} | {line}")
            if not self.started:
                raise ServerFailed(part.obituary())
        again = f" ({life.deaths} times in a row)" if life.deaths > 1 else ""
        self._say(f"{part.obituary()}; it starts again in {(life.due or now) - now:.1f} s{again}")

    def _restart(self, part: Part) -> None:
        try:
            self._spawn(part)
        except ServerFailed as exc:  # such as a port that somebody took meanwhile: it may be free the next time
            life = self._supervisor.ended(part.name, time.monotonic())
            self._say(f"{exc}; the next attempt is in {life.delay:.1f} s")

    async def _welcome(self, names: Iterable[str]) -> None:
        parts = [self._parts[name] for name in names if self._parts[name].running]
        for part, ready in zip(parts, await asyncio.gather(*(_is_ready(part) for part in parts)), strict=True):
            if ready:
                self._is_there(part)
                if self.started:
                    self._say(f"{part.name} is back (pid {part.pid})")
                    self._changed()

    def _late(self) -> ServerFailed:
        program = next(program for program in self.programs if program.name in self._coming)
        reason = program.unready if program.running else program.obituary()
        return ServerFailed(f"{program.name} was not ready within {_READY_WITHIN:.0f} s: {reason} (log: {program.log})")


async def _is_ready(part: Part) -> bool:
    try:
        return await asyncio.to_thread(part.ready)
    except ServerFailed:  # it ended, which the next look notices, or it is stuck
        part.kill()
        return False


async def supervise(deployment: Deployment, *, stopping: Callable[[], None]) -> int:
    """Run a deployment until SIGINT, SIGTERM or SIGHUP, and end it; a second signal ends it at once.

    Returns 0 if it was up, else 128 and the number of the signal, as shells do. `stopping` is called at the first
    signal. Raises `ServerFailed` if the deployment cannot run, after it was ended.
    """
    asked, first = asyncio.Event(), 0
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(len(deployment.servers) + len(deployment.programs) + 1))

    def on_signal(number: signal.Signals) -> None:
        nonlocal first
        if asked.is_set():
            deployment.kill()
            return
        first = number
        asked.set()
        stopping()

    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
            loop.add_signal_handler(number, on_signal, number)
    work, wish = asyncio.create_task(deployment.run()), asyncio.create_task(asked.wait())
    try:
        await asyncio.wait((work, wish), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        work.cancel()
        wish.cancel()
        await asyncio.gather(work, wish, return_exceptions=True)
        await deployment.stop()
    return 0 if deployment.started else 128 + first


async def follow(logs: Mapping[str, Tail], show: Callable[[str, str], None]) -> None:
    """Show (name, line) of what is added to logs until the task is cancelled."""
    while True:
        for name, tail in logs.items():
            for line in tail.lines():
                show(name, line)
        await asyncio.sleep(_LOOK_EVERY)
