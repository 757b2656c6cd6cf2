"""Gateways with one protection switched off; see tests/faults/mutants.py."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.feed import Feed
from gateway.reading import Reading
from tests.faults.mutants import patch


def numbers_ignored() -> None:
    """A gateway looks neither at the numbers of messages nor at those in beats."""
    beat = Feed._beat

    def beaten(self: Any, stream: Any, message: Any, effects: Any) -> None:
        beat(self, stream, msgspec.structs.replace(message, numbers={}), effects)

    patch(Feed, "_number", lambda *_: None)
    patch(Feed, "_beat", beaten)


def handed_on_early() -> None:
    """A session hands on what comes, whether what is before it has come or not."""
    take = Reading.take

    def taking(self: Any, run: Any, out: Any) -> None:
        if run.frame is not None and 0 < self.expected < run.first:
            self.expected = run.first
        take(self, run, out)

    patch(Reading, "take", taking)


def skips_untold() -> None:
    """A session does not say `skip`."""
    hand_on = Reading._hand_on

    def handing(self: Any, run: Any, out: Any) -> None:
        before = len(out.frames)
        hand_on(self, run, out)
        if run.frame is None:
            del out.frames[before:]

    patch(Reading, "_hand_on", handing)


def gaps_untold() -> None:
    """A session does not say `gap` where a client's page ends before the log does."""

    def silent(self: Any, _out: Any) -> None:
        self._announced = self.head

    patch(Reading, "_say_gap", silent)


GATEWAYS: Final[tuple[Callable[[], None], ...]] = (numbers_ignored, handed_on_early, skips_untold, gaps_untold)
