"""Ends a process that is stuck, so that its supervisor starts it again: nothing else would.

`Watch` is the pure part: who is at work, and how long nobody has given a sign of life. `Watchdog` is the thread that
looks at it once a second. Time in which the thread itself did not run (a frozen process, a suspended machine) does not
count.
"""

import asyncio
import faulthandler
import os
import sys
import threading
import time
from itertools import count
from typing import Final, Self

EXIT_CODE: Final = 70
STEP: Final = 1.0  # s between looks, and between the beats of the event loop
LOOP: Final = "the event loop"


class Watch:
    """Who is at work; `limit` is how long (s) one may be without a sign of life.

    `alive` and `done` are called by the event loop's thread, `look` by another one.
    """

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self._numbers = count(1)
        self._lives: dict[str, int] = {}
        self._seen: dict[str, tuple[int, float]] = {}  # the life seen last, and the seconds since it changed

    def alive(self, name: str) -> None:
        """Note that work of this name has begun or goes on."""
        self._lives[name] = next(self._numbers)

    def goes_on(self, name: str) -> None:
        """Note that work of this name goes on, if there is any."""
        if name in self._lives:
            self.alive(name)

    def done(self, name: str) -> None:
        """Note that it has ended."""
        self._lives.pop(name, None)

    def all_alive(self) -> None:
        """Note that whatever is at work waits for a server that is away."""
        for name in list(self._lives):
            if name != LOOP:
                self.alive(name)

    def look(self, elapsed: float) -> str | None:
        """Count `elapsed` more seconds; return who has been without life for longer than the limit, if anybody."""
        lives = list(self._lives.items())  # one step of the interpreter: the other thread cannot come between
        seen: dict[str, tuple[int, float]] = {}
        for name, life in lives:
            before, waited = self._seen.get(name, (0, 0.0))
            seen[name] = (life, waited + elapsed if life == before else 0.0)
        self._seen = seen
        return next((name for name, (_, waited) in seen.items() if waited > self.limit), None)

    def longest(self) -> float:
        """Return for how many seconds, as of the last look, the longest has been without life."""
        return max((waited for _, waited in self._seen.values()), default=0.0)


class Watchdog:
    """Watches a running event loop and the work that `watch` knows of; to be used as a context manager."""

    def __init__(self, watch: Watch, process: str) -> None:
        """`process` is how the last line names it, such as worker."""
        self._watch = watch
        self._process = process
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._beat(asyncio.get_running_loop())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._stopped.is_set():
            self._watch.alive(LOOP)
            loop.call_later(STEP, self._beat, loop)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(STEP):
            now = time.monotonic()
            if name := self._watch.look(min(now - last, 2 * STEP)):
                self._end(name)
            last = now

    def _end(self, name: str) -> None:
        """End the process at once: what is stuck would also hold up an end in good order."""
        line = f"tocsin: this {self._process} is stuck: {name} gave no sign of life for {self._watch.limit:g} s"
        # Not by logging: the thread that is stuck may hold its lock.
        os.write(sys.stderr.fileno(), f"{line} (TOCSIN_STUCK); it ends with code {EXIT_CODE}\n".encode())
        faulthandler.dump_traceback(all_threads=True)
        os._exit(EXIT_CODE)
