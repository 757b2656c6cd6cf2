"""Clocks of single processes that are wrong, and step, while they run: libfaketime, told by a file.

    clock = Clock(folder / "worker-0.clock")
    await cluster.up("worker-0", mutant=MUTANT, **clock.settings)
    await clock.set("+1h")                         # also back; "+0" is the true time

Only the time of day is wrong: steady clocks go on, as they do when somebody sets the time. The library breaks
`time.sleep` in Python 3.11 then, for which the process needs `MUTANT`.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

LIBRARY: Final = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1")
MUTANT: Final = "sleeps_without_the_library"
WITHIN: Final = 1  # s in which a process notices


class Clock:
    """The clock of the processes that are started with its `settings`; true at first."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._write("+0")

    async def set(self, offset: str) -> None:
        """Set it: `+1h`, `-1h`, `+0` against the true time; return when the processes go by it."""
        self._write(offset)
        await asyncio.sleep(2 * WITHIN)  # the library looks at the file so often, and tells nobody

    def _write(self, offset: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(self._file)  # never half of it

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a process that goes by it."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(WITHIN),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else each wait of one thread for another takes 5 ms
            "NO_FAKE_STAT": "1",
        }
