"""What the slope of memory says, and which samples count."""

import pytest

from proof.watching import SETTLES, Sample, slope


def samples(begin: float, end: float, a_minute: float) -> list[Sample]:
    return [Sample(float(at), 100 + at / 60 * a_minute, 50) for at in range(round(begin), round(end))]


@pytest.mark.parametrize("a_minute", [0.0, 3.0, -2.0])
def test_the_slope_is_that_of_the_time_after_it_has_settled(a_minute: float) -> None:
    risen = [Sample(float(at), 3.0 * at, 50) for at in range(round(SETTLES))]
    assert slope(risen + samples(SETTLES, 180, a_minute)) == pytest.approx(a_minute)


def test_a_short_time_has_no_slope() -> None:
    assert slope(samples(0, SETTLES + 5, 60.0)) == 0
