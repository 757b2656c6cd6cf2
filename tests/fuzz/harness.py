"""Runs targets on inputs, keeps what crashes them, and makes it small."""

import random
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.fuzz.inputs import inputs
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SLOW: Final = (
    1.0  # CPU-seconds for one input; beyond it counts as a crash: a client must not be able to hold up the others
)
TRIES: Final = 2_000  # inputs that making one small may cost


class Crash(msgspec.Struct, frozen=True):
    """An input that a target did not take, and what it raised: where, and which error."""

    target: str
    data: bytes
    error: str


class Tally(msgspec.Struct):
    """What came of a run; `crashes` holds one for each place."""

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    crashes: list[Crash] = []


def crashed(target: Target, data: bytes) -> tuple[str, bool]:
    """Return where and how the target fails on an input, empty if it does not, and whether it refused it in order."""
    begun = time.process_time()
    try:
        target.run(data)
    except target.errors:
        return "", True
    except Exception as exc:  # noqa: BLE001 - that is what is looked for
        last = traceback.extract_tb(exc.__traceback__)[-1]
        return f"{type(exc).__name__} in {Path(last.filename).name}:{last.name}", False
    return ("slow", False) if time.process_time() - begun > SLOW else ("", False)


def run(name: str, seed: int, count: int) -> Tally:
    """Give a target `count` inputs that follow from the seed."""
    target, rng, tally = TARGETS[name], random.Random(seed), Tally()
    known: set[str] = set()
    begun = time.perf_counter()
    for _ in range(count):
        data = inputs(rng, target.seeds, target.grown)
        error, refused = crashed(target, data)
        tally.refused += refused
        if error and error not in known:
            known.add(error)
            tally.crashes.append(Crash(name, smaller(target, data, error), error))
    tally.inputs, tally.seconds = count, time.perf_counter() - begun
    return tally


def smaller(target: Target, data: bytes, error: str) -> bytes:
    """Return the input without what the crash does not need."""
    tries = 0
    size = len(data) // 2
    while size and tries < TRIES and error != "slow":
        for at in range(0, len(data), size):
            tries += 1
            less = data[:at] + data[at + size :]
            if crashed(target, less)[0] == error:
                data = less
                break
        else:
            size //= 2
    return data


def shares(total: int) -> Iterator[tuple[str, int]]:
    """Return how many of the inputs each target gets."""
    weights = sum(target.weight for target in TARGETS.values())
    for target in TARGETS.values():
        yield target.name, max(1, total * target.weight // weights)
