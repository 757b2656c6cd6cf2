"""Our command line with one protection switched off: `python -m tests.faults.mutant NAME -- worker --role inbox`.

`NAME+NAME` are applied in this order. Most mutants are in `tests/faults/mutants.py` and
`tests/faults/gateway_mutants.py`.

An experiment shows something only if it fails without the protection that it is about: see `test_mutations.py`.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import cli.main
import streams.inbox
import tables.kept
import tables.logs
from gateway.session import Session
from schemas.frames import notification_frame
from tests.faults import gateway_mutants, mutants, traps

BAD_USER = "mallory"  # of whom `session_fails_for_a_user` lets sessions fail
BAD_KIND = "rule.fails"  # the `kind` of a notification that `rule_fails_on_a_kind` fails on


def rule_fails_on_a_kind() -> None:
    """The rule of the inbox raises for one kind of notification."""

    def frame(note: Any, **given: Any) -> bytes:
        if note.kind == BAD_KIND:
            raise ZeroDivisionError("on purpose")
        return notification_frame(note, **given)

    vars(streams.inbox)["notification_frame"] = frame


def session_fails_for_a_user() -> None:
    """A session of one user raises whatever the client says."""
    take = Session._take_frame

    def taking(self: Any, frame: Any, now: float) -> None:
        if self.user == BAD_USER:
            raise ZeroDivisionError("on purpose")
        take(self, frame, now)

    Session._take_frame = taking  # type: ignore[method-assign]


def sleeps_without_the_library() -> None:
    """Nothing is wrong with this one but that `time.sleep` fails under libfaketime (see `tests.faults.clocks`)."""
    vars(time)["sleep"] = threading.Event().wait


def little_memory() -> None:
    """Nothing is wrong with this one but that nearly all states of logs are in files."""
    vars(tables.kept)["KEPT"], vars(tables.logs)["LEAVING"] = 8, 4


MUTANTS: dict[str, Callable[[], None]] = {
    **{
        each.__name__: each
        for each in (rule_fails_on_a_kind, session_fails_for_a_user, sleeps_without_the_library, little_memory)
    },
    **{each.__name__: each for each in (*mutants.WORKERS, *gateway_mutants.GATEWAYS)},
    "with_traps": traps.set_up,  # nothing is switched off
}


def main() -> None:
    names, separator, *arguments = sys.argv[1:]
    if separator != "--" or not set(names.split("+")) <= MUTANTS.keys():
        sys.exit(f"usage: python -m tests.faults.mutant {'|'.join(sorted(MUTANTS))} -- COMMAND...")
    for name in names.split("+"):
        MUTANTS[name]()
    sys.argv[1:] = arguments
    cli.main.main()


if __name__ == "__main__":
    main()
