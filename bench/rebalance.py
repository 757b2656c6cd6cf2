"""`python -m bench rebalance`: do records get lost while workers come and go? Ours, or stock Faust for comparison.

Each run has topics, a group and folders of its own on one Kafka. Exits with 1 if a run of ours lost, stalled or had a
stale value.
"""

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import pauses
from bench.measure import show
from bench.rebalance_check import Verdict
from bench.rebalance_run import RANDOM_STEPS, Options, Run, line
from cli.kafka import hush
from stack.servers import Kafka

FIGURES: Final = ("lost", "stalled", "stale", "wrong", "wrong_files", "late", "repeats")


class Report:
    """The runs so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done: list[tuple[Verdict, dict[str, Any]]] = []

    def add(self, verdict: Verdict, told: dict[str, Any]) -> None:
        """Note a run, in the file and on the terminal."""
        self._done.append((verdict, told))
        text = line(verdict, told)
        with self._path.open("a") as file:
            file.write(text + "\n")
        print(text, flush=True)

    def print(self) -> None:
        """Print the sums."""
        runs = [verdict for verdict, _ in self._done]
        rows: list[tuple[object, ...]] = [
            ("runs", len(runs)),
            ("events", sum(told["events"] for _, told in self._done)),
        ]
        for name in FIGURES:
            values = [getattr(verdict, name) for verdict in runs]
            rows.append((name, f"{sum(values)} in {sum(value > 0 for value in values)} runs"))
        show("Workers that come and go", ("what", "figure"), rows)

    @property
    def bad(self) -> bool:
        """Whether a run of ours went wrong."""
        return any(verdict.bad for verdict, told in self._done if told["kind"] == "ours")


async def runs(
    brokers: str, folder: Path, options: Sequence[Options], at_once: int, report: Report, *, keep: bool
) -> None:
    """Make runs, so many at a time."""
    waiting = list(options)

    async def lane() -> None:
        while waiting:
            run = Run(brokers, folder, waiting.pop(0))
            verdict, told = await run.run()
            if not (keep or verdict.bad):
                shutil.rmtree(run.folder, ignore_errors=True)
            report.add(verdict, told)

    await asyncio.gather(*(lane() for _ in range(at_once)))


def main(arguments: Sequence[str]) -> int:
    """Run the check and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench rebalance", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--stock", action="store_true", help="stock Faust instead of ours")
    parser.add_argument("--static", action="store_true", help="members with instance ids (static membership)")
    parser.add_argument("--pauses", action="store_true", help="measure how long partitions stand still, instead")
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time")
    parser.add_argument("--seconds", type=float, default=18.0, help="in which workers come and go")
    parser.add_argument("--rate", type=float, default=400.0, help="events a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", choices=RANDOM_STEPS, default="", help="the last step; one at random if not named")
    parser.add_argument("--kafka", default="", help="brokers; an own Kafka is started if none are named")
    parser.add_argument("--folder", type=Path, help="where runs leave their files; a temporary one if none is named")
    parser.add_argument("--keep", action="store_true", help="keep the files of good runs, too")
    parser.add_argument("--json", type=Path, help="file that one line a run is added to")
    given = parser.parse_args(arguments)
    hush()
    if given.pauses:
        return pauses.main()
    options = [
        Options(
            kind="stock" if given.stock else "ours",
            static=given.static,
            seconds=given.seconds,
            rate=given.rate,
            seed=given.seed + number,
            step=given.step,
        )
        for number in range(given.runs)
    ]
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="tocsin-rebalance-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(given.json or folder / "runs.jsonl")
    with contextlib.ExitStack() as stack:
        if not given.kafka:
            print("starting Kafka ...", file=sys.stderr)
            kafka = stack.enter_context(Kafka(folder / "kafka"))
            stack.callback(shutil.rmtree, folder / "kafka", ignore_errors=True)
        asyncio.run(runs(given.kafka or kafka.address, folder, options, given.at_once, report, keep=given.keep))
    report.print()
    return 1 if report.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
