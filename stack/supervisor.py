"""Which child to start again, and when: decisions only, the time comes from outside.

A child that ends is started again after 0.5 s, and after twice as long each further time, up to 10 s; once it has run
for 30 s it counts as well again.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

FIRST_DELAY: Final = 0.5  # s
LONGEST_DELAY: Final = 10.0  # s
STEADY: Final = 30.0  # s after which earlier ends are forgotten


class Life(msgspec.Struct, frozen=True):
    """What is known of one child; times are seconds of a monotonic clock.

    since   when it was started last, None while it is down
    due     when it has to be started again, None while it runs
    delay   how long the next restart waits
    deaths  how often in a row it ended before it was steady
    """

    since: float | None = None
    due: float | None = None
    delay: float = FIRST_DELAY
    deaths: int = 0


def started(life: Life, now: float) -> Life:
    """Return the life of a child that was started just now."""
    return msgspec.structs.replace(life, since=now, due=None)


def ended(life: Life, now: float) -> Life:
    """Return the life of a child that was found ended just now."""
    steady = life.since is not None and now - life.since >= STEADY
    delay = FIRST_DELAY if steady else life.delay
    deaths = 1 if steady else life.deaths + 1
    return Life(since=None, due=now + delay, delay=min(2 * delay, LONGEST_DELAY), deaths=deaths)


class Supervisor:
    """The lives of the children of a deployment, by name."""

    def __init__(self) -> None:
        self._lives: dict[str, Life] = {}

    def started(self, name: str, now: float) -> None:
        """Note that a child was started."""
        self._lives[name] = started(self._lives.get(name, Life()), now)

    def ended(self, name: str, now: float) -> Life:
        """Note that a child ended; what is returned says when it is due again."""
        self._lives[name] = ended(self._lives.get(name, Life()), now)
        return self._lives[name]

    def up(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that are thought to run."""
        return [name for name in names if self._lives.get(name, Life()).since is not None]

    def due(self, now: float) -> list[str]:
        """Return the children that have to be started now, the longest due first."""
        waiting = [(life.due, name) for name, life in self._lives.items() if life.due is not None and life.due <= now]
        return [name for _, name in sorted(waiting)]
