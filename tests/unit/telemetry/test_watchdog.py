"""Who is stuck: the pure part, and a process that really is."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from telemetry.watchdog import EXIT_CODE, LOOP, Watch


def test_work_without_a_sign_of_life_is_stuck_after_the_limit() -> None:
    watch = Watch(3)
    watch.alive("a")
    assert [watch.look(1) for _ in range(6)] == [None, None, None, None, "a", "a"]


def test_a_sign_of_life_begins_the_time_anew() -> None:
    watch = Watch(2)
    watch.alive("a")
    for _ in range(10):
        assert watch.look(1) is None
        assert watch.look(1) is None
        watch.alive("a")
    assert watch.longest() <= 2


def test_what_is_done_is_not_stuck_and_may_begin_anew() -> None:
    watch = Watch(2)
    for _ in range(10):
        watch.alive("a")
        assert watch.look(1) is None
        watch.done("a")
    watch.done("never begun")


def test_a_server_that_is_away_excuses_the_work_but_not_the_loop() -> None:
    watch = Watch(2)
    watch.alive(LOOP)
    watch.alive("a")
    found = []
    for _ in range(4):
        watch.all_alive()
        found.append(watch.look(1))
    assert found == [None, None, None, LOOP]


@given(st.lists(st.sampled_from(["alive", "done", "look"]), max_size=60), st.integers(1, 5))
def test_nobody_is_stuck_before_the_limit_and_somebody_is_after_it(steps: list[str], limit: int) -> None:
    watch = Watch(limit)
    silent: int | None = None  # looks since the first one after the last sign of life
    for step in steps:
        if step == "alive":
            watch.alive("a")
            silent = -1
        elif step == "done":
            watch.done("a")
            silent = None
        else:
            stuck = watch.look(1)
            silent = None if silent is None else silent + 1
            assert stuck == ("a" if silent is not None and silent > limit else None)


BLOCKED = """
import asyncio, time
from telemetry.watchdog import Watch, Watchdog

async def main():
    with Watchdog(Watch({limit}), "worker"):
        await asyncio.sleep(0.1)
        {what}

asyncio.run(main())
"""


def run(what: str, limit: float) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(what=what, limit=limit)
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)


def test_a_process_whose_loop_is_blocked_ends_with_its_stacks() -> None:
    done = run("time.sleep(20)", 1)
    assert done.returncode == EXIT_CODE
    first, *stacks = done.stderr.splitlines()
    assert first == (
        "tocsin: this worker is stuck: the event loop gave no sign of life for 1 s (TOCSIN_STUCK); it ends with code 70"
    )
    assert any("in main" in line for line in stacks)


def test_a_process_that_goes_on_is_left_alone() -> None:
    done = run("await asyncio.sleep(4)", 2.5)
    assert (done.returncode, done.stderr) == (0, "")
