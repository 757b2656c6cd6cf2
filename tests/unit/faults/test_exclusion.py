"""An experiment that measures has the machine for itself; the others share it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.exclusion import turn

SOON = 5.0  # s
NOT_YET = 0.05  # s that what must not happen is given


class Asking:
    """A thread that wants a turn and has it until it is told to leave."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self._folder, self._alone = folder, alone
        self.has_it, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with turn(self._folder, alone=self._alone):
            self.has_it.set()
            assert self._leave.wait(SOON)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(SOON)


@contextmanager
def asking(folder: Path, *, alone: bool) -> Iterator[Asking]:
    one = Asking(folder, alone=alone)
    try:
        yield one
    finally:
        one.leave()


def test_experiments_that_do_not_measure_run_side_by_side(tmp_path: Path) -> None:
    with asking(tmp_path, alone=False) as one, asking(tmp_path, alone=False) as other:
        assert one.has_it.wait(SOON)
        assert other.has_it.wait(SOON)


def test_one_that_measures_waits_for_the_others_and_they_for_it(tmp_path: Path) -> None:
    with asking(tmp_path, alone=False) as before:
        assert before.has_it.wait(SOON)
        with asking(tmp_path, alone=True) as measuring:
            assert not measuring.has_it.wait(NOT_YET)
            with asking(tmp_path, alone=False) as after:
                assert not after.has_it.wait(NOT_YET)  # it does not overtake
                before.leave()
                assert measuring.has_it.wait(SOON)
                assert not after.has_it.wait(NOT_YET)
                measuring.leave()
                assert after.has_it.wait(SOON)
