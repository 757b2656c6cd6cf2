"""What benchmarks take from their command lines, and when they count a process's CPU."""

import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator

import pytest

from bench.measure import count, counts, number, numbers, rested

WORK = """
import time
print("begun", flush=True)
[None for _ in range(10_000_000)]
print(time.process_time(), flush=True)
input()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that works for a moment, says how many CPU-seconds that took in all, and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.communicate("\n")


async def test_a_process_that_works_is_waited_for_and_all_its_cpu_counts(child: subprocess.Popen[str]) -> None:
    used = await rested({"it": child.pid}, seconds=1.0, within=30.0)
    assert child.stdout is not None
    assert used["it"] == pytest.approx(float(child.stdout.readline()), abs=0.05)


async def test_what_else_has_to_be_true_is_waited_for() -> None:
    answers = iter([False, False, True, True, True])
    await rested({}, seconds=0.2, within=30.0, also=lambda: next(answers))
    assert list(answers) == [True, True]


async def test_what_does_not_come_to_rest_in_time_is_named() -> None:
    with pytest.raises(TimeoutError, match="worker-0: there was still work after 0 s"):
        await rested({"worker-0": 0}, seconds=0.2, within=0.4, also=lambda: False)


@pytest.mark.parametrize("text", ["abc", "", "0", "-1", "nan", "inf", "1,0", "1,,2"])
@pytest.mark.parametrize("kind", [number, count, numbers, counts])
def test_what_cannot_be_measured_is_refused(kind: Callable[[str], object], text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is not a (whole )?number above 0"):
        kind(text)


def test_numbers_are_read() -> None:
    assert (number("0.5"), count("3")) == (0.5, 3)
    assert (numbers("500,0.5"), counts("1,20")) == ([500.0, 0.5], [1, 20])
