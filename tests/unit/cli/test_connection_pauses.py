"""When a client comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.connection import LONGEST_DELAY, SLOWED, Ended, back_off, pause_after


@given(attempt=st.integers(0, 10_000), roll=st.floats(0, 1))
def test_the_pause_is_bounded_and_never_nothing(attempt: int, roll: float) -> None:
    assert 0 < back_off(attempt, roll) <= LONGEST_DELAY


def test_the_pause_grows_with_each_attempt() -> None:
    pauses = [back_off(attempt, 0.5) for attempt in range(6)]
    assert pauses == sorted(pauses)
    assert len(set(pauses)) == 6


def test_chance_spreads_clients_over_half_of_the_pause() -> None:
    assert back_off(3, 1.0) == 2 * back_off(3, 0.0)


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003])
def test_most_codes_mean_come_back(code: int) -> None:
    assert pause_after(code, 0, 0.5) == back_off(0, 0.5)


def test_an_expired_token_is_replaced_at_once_but_not_in_a_circle() -> None:
    assert pause_after(4005, 0, 0.5) == 0
    assert pause_after(4005, 1, 0.5) > 0


@pytest.mark.parametrize("code", [4006, 4007])
def test_who_was_too_fast_or_too_many_waits(code: int) -> None:
    assert pause_after(code, 0, 0.0) >= SLOWED


@pytest.mark.parametrize("code", [4100, 4101, 4103, 4104, 4105, 4199])
def test_terminal_codes_end_it(code: int) -> None:
    with pytest.raises(Ended, match=str(code)):
        pause_after(code, 0, 0.5)


def test_an_end_says_its_reason_in_one_line() -> None:
    with pytest.raises(Ended, match=r"^the gateway ended the session with code 4104: a \\n reason$"):
        pause_after(4104, 0, 0.5, "a \n reason")
