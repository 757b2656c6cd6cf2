"""What a long run says about memory and descriptors."""

import os

import pytest

from proof.samples import FILES, GROWTH, LONG, Sample, lives, look, slope, table


def samples(pid: int, seconds: float, *, growth: float = 0.0, files: float = 0.0) -> list[Sample]:
    """A process that grows by so many MB (and descriptors) an hour after a quick start."""
    found = []
    for at in range(0, int(seconds) + 1, 10):
        memory = min(50.0, at) + growth * at / 3600
        found.append(Sample(at, "worker-0", pid, memory, memory, 20 + int(files * at / 3600), 8))
    return found


def test_the_slope_of_a_line_is_found() -> None:
    assert slope([(x, 3.0 * x + 7) for x in range(10)]) == pytest.approx(3.0)
    assert slope([(1.0, 5.0)]) == 0.0
    assert slope([(1.0, 5.0), (1.0, 6.0)]) == 0.0


@pytest.mark.parametrize(
    ("growth", "files", "grows"),
    [
        (0.0, 0.0, False),
        (2 * GROWTH - 1, 0.0, False),
        (2 * GROWTH + 1, 0.0, True),
        (0.0, FILES * 4, True),
        (-50.0, 0.0, False),
    ],
)
def test_a_long_life_is_judged_by_its_second_half(growth: float, files: float, grows: bool) -> None:
    (life,) = lives(samples(1, 3600, growth=growth, files=files))
    assert life.settled
    assert life.grows is grows
    assert life.drift == pytest.approx(growth, abs=0.1)


def test_a_short_life_is_shown_and_not_judged() -> None:
    found = lives([*samples(1, LONG - 20, growth=500), *samples(2, 40)])
    assert [(life.pid, life.settled, life.grows) for life in found] == [(1, False, False), (2, False, False)]
    assert "too short to be judged" in table(found)


def test_a_process_is_looked_at() -> None:
    seen = look(1.0, "me", os.getpid())
    assert seen is not None
    assert seen.rss >= seen.pss > 1
    assert seen.files >= 3
    assert seen.threads >= 1
    assert look(1.0, "nobody", 2**22 + 1) is None
