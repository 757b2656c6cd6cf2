"""Carrying a run out: page by page, each noted in the journal after Kafka or the store has all of it.

A page has at most `BATCH` records. After a crash between a page and its note the page is done again under the same ids
or rows, which changes nothing.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress

from cli.replay.journal import Book
from cli.replay.reading import Reader
from cli.replay.report import NAMED, Carried, Report
from cli.replay.steps import Judged, Performed, Step, Taken
from schemas.replays import Run
from streams.replay import BATCH, LeftOut
from streams.replay_journal import advanced, ended, left

TAKEN: Final = "taken"  # among the counts of a run
NOTE_EVERY: Final = 5.0  # s between two notes while pages bring nothing; a silent run is taken for dead after 30 s


class Stop:
    """Set by Ctrl-C or SIGTERM: the page in flight is finished. The second signal ends at once."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._set)

    def _set(self) -> None:
        self.release()
        self.event.set()

    def release(self) -> None:
        """Leave signals to Python again."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the signal."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.event.wait(), seconds)


async def survey(run: Run, steps: Sequence[Step], reader: Reader, prefix: str) -> Report:
    """Return what the rest of a run would do."""
    report = Report()
    taken = run.counts.get(TAKEN, 0)
    async for number, _, page in _pages(run, reader, prefix, BATCH):
        judged, _ = _cut(await steps[number].judge(page), run, taken)
        taken += sum(isinstance(one, Taken) for one in judged)
        for one in judged:
            report.add(one)
        if _is_full(run, taken):
            break
    return report


async def carry_out(
    run: Run, steps: Sequence[Step], reader: Reader, book: Book, prefix: str, *, rate: float
) -> Carried:
    """Do the rest of a run and note it; interrupted, it is noted as stopped."""
    stop, begin, noted = Stop(), time.monotonic(), time.monotonic()
    passed_over: list[LeftOut] = []
    size = max(1, min(BATCH, int(rate * NOTE_EVERY))) if rate else BATCH
    try:
        with _progress(run) as advance:
            async for number, last, page in _pages(run, reader, prefix, size):
                judged, used = _cut(await steps[number].judge(page), run, run.counts.get(TAKEN, 0))
                taken = [one for one in judged if isinstance(one, Taken)]
                performed = await steps[number].perform(taken) if taken else Performed()
                passed_over += [one for one in judged if isinstance(one, LeftOut) and one.at] + performed.refused
                del passed_over[NAMED:]
                whole = used == len(page) and page[-1].offset + 1 >= last
                offset = last if whole else page[used - 1].offset + 1
                counts = _counts(judged, performed.refused)
                before, run = run, advanced(run, number, offset, counts, _now(), performed.tail)
                advance(left(before) - left(run))
                if taken or time.monotonic() - noted > NOTE_EVERY:
                    await book.note(run)
                    noted = time.monotonic()
                if _is_full(run, run.counts.get(TAKEN, 0)) or stop.event.is_set():
                    break
                if rate:
                    await stop.pause(len(taken) / rate)
    finally:
        stop.release()
    finished = not stop.event.is_set() or _is_full(run, run.counts.get(TAKEN, 0)) or not left(run)
    run = ended(run, finished=finished, now_ms=_now())
    await book.note(run)
    return Carried(run, time.monotonic() - begin, passed_over)


async def _pages(run: Run, reader: Reader, prefix: str, size: int) -> AsyncIterator[tuple[int, int, list[Any]]]:
    """Yield (number of the span, its end, records) of all that is left of a run."""
    for number, (span, first) in enumerate(zip(run.asked.spans, run.next, strict=True)):
        async for page in reader.pages(prefix + span.topic, span.partition, first, span.last, size):
            yield number, span.last, page


def _cut(judged: list[Judged], run: Run, taken: int) -> tuple[list[Judged], int]:
    """Return what the limit of the run leaves of a page, and how many of its records that is."""
    if not run.asked.limit:
        return judged, len(judged)
    room = run.asked.limit - taken
    for number, one in enumerate(judged):
        room -= isinstance(one, Taken)
        if not room:
            return judged[: number + 1], number + 1
    return judged, len(judged)


def _is_full(run: Run, taken: int) -> bool:
    return bool(run.asked.limit) and taken >= run.asked.limit


def _counts(judged: Sequence[Judged], refused: Sequence[LeftOut]) -> Counter[str]:
    """Return how many records were taken, and how many left out by reason; those that Kafka refused had been taken."""
    counts = Counter(
        TAKEN if isinstance(one, Taken) else one.reason for one in judged if isinstance(one, Taken | LeftOut)
    )
    counts.update(one.reason for one in refused)
    if refused:
        counts[TAKEN] -= len(refused)
    return counts


@contextlib.contextmanager
def _progress(run: Run) -> Iterator[Any]:
    """Give what moves a bar on the terminal, if there is one."""
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task(run.asked.operation, total=left(run))
        yield lambda records: bar.advance(task, records)


def _now() -> int:
    return round(time.time() * 1000)
