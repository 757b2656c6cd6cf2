"""What is fuzzed: something that reads what a client, a producer or the bus says. It takes bytes and returns.

It may refuse them with the errors that it declares; whatever else it raises is a crash.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

SECRET: Final = "the key of the tokens, known to these tests only"
NOW: Final = 1_800_000_000.0  # s since 1970, the time of all tokens here
PARTITIONS: Final = 4


class Target(msgspec.Struct, frozen=True):
    """`run` takes an input; `errors` are how it may refuse it; `weight` is how much of a run goes to it."""

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    errors: tuple[type[BaseException], ...] = ()
    grown: Callable[[random.Random], bytes] | None = None
    weight: int = 1
