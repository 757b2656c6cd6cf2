"""Our command line with one protection switched off: `python -m tests.faults.mutant NAME -- worker --role inbox`.

`NAME+NAME` are applied in this order. Most mutants are in `tests/faults/mutants.py` and
`tests/faults/gateway_mutants.py`.

An experiment shows something only if it fails without the protection that it is about, so `test_mutants.py` runs some.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import cli.main
import streams.inbox
from gateway.feed import Feed
from schemas.frames import notification_frame
from schemas.logs import LANES
from streams.runner import Batch, Runner
from tests.faults import gateway_mutants, mutants, traps


def commit_before_append() -> None:
    """A worker commits a batch before its effects are durable."""

    as_it_should_be = Runner._run

    async def run(self: Any, messages: list[Any]) -> None:
        if self._name not in LANES:
            await as_it_should_be(self, messages)
            return
        consumer = self._consumer
        batch = Batch(messages, consumer.assignment_epoch)
        consumer.track(messages)
        consumer.ack_all(messages, batch.epoch)
        await consumer.commit()
        await asyncio.sleep(0.1)  # the moment in which a crash loses the batch
        await self._done(lambda: self._handler(batch), batch)

    Runner._run = run  # type: ignore[method-assign]


def deaf_to_numbers() -> None:
    """A gateway does not conclude from numbers, beats and silence that it has missed something."""
    Feed._suspect = lambda self, stream, effects: stream.missing.clear()  # type: ignore[method-assign]


BAD_KIND = "rule.fails"  # the `kind` of a notification that `rule_fails_on_a_kind` fails on


def rule_fails_on_a_kind() -> None:
    """The rule of the inbox raises for one kind of notification."""

    def frame(note: Any, **given: Any) -> bytes:
        if note.kind == BAD_KIND:
            raise ZeroDivisionError("on purpose")
        return notification_frame(note, **given)

    vars(streams.inbox)["notification_frame"] = frame


def sleeps_without_the_library() -> None:
    """Nothing is wrong with this one but that `time.sleep` fails under libfaketime (see `tests.faults.clocks`)."""
    vars(time)["sleep"] = threading.Event().wait


MUTANTS: dict[str, Callable[[], None]] = {
    **{
        each.__name__: each
        for each in (commit_before_append, deaf_to_numbers, rule_fails_on_a_kind, sleeps_without_the_library)
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
