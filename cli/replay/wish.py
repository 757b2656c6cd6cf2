"""What an operator wants of a replay, as it was typed."""

import re

import msgspec

from schemas.replays import Operation
from streams.replay_range import RangeError


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator typed."""

    operation: Operation
    topic: str | None = None
    first: str | None = None
    last: str | None = None
    users: list[str] = []
    kinds: list[str] = []
    keys: list[str] = []
    reasons: list[str] = []
    topics: list[str] = []
    limit: int = 0
    again: bool = False
    settled: bool = False
    new_epoch: bool = False
    run: str | None = None
    yes: bool = False
    rate: float = 0.0
    as_json: bool = False

    def is_bare(self) -> bool:
        """Say whether nothing but a run is named."""
        bare = Wish(operation=self.operation, run=self.run, yes=self.yes, rate=self.rate, as_json=self.as_json)
        return self == bare


def run_named(text: str) -> str:
    """Return the name of a run as it was typed. Raises `RangeError` if no run can be called so."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise RangeError(f"{text!r} cannot name a run: 1 to 64 letters, digits, dots, dashes and underscores")
    return text
