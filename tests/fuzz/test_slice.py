"""A slice of `make fuzz` for every run of the tests, always the same inputs."""

import pytest

from tests.fuzz.harness import crashed, run, shares, smaller
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SLICE = 20_000


@pytest.mark.parametrize(("name", "count"), list(shares(SLICE)))
def test_nothing_that_is_said_to_us_makes_us_crash(name: str, count: int) -> None:
    tally = run(name, 1, count)
    assert not tally.crashes


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_what_they_should_be(name: str) -> None:
    """A target that refused its own seeds would look at nothing."""
    target = TARGETS[name]
    assert [crashed(target, seed) for seed in target.seeds] == [("", False)] * len(target.seeds)


def test_a_crash_is_found_and_made_small() -> None:
    def run_(data: bytes) -> None:
        assert b"!" not in data

    target = Target("x", run_, (b"a!b",))
    error, _ = crashed(target, b"x" * 500 + b"!" + b"y" * 500)
    assert error == "AssertionError in test_slice.py:run_"
    assert smaller(target, b"x" * 500 + b"!" + b"y" * 500, error) == b"!"
