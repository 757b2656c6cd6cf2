from hypothesis import given
from hypothesis import strategies as st

from stack.supervisor import FIRST_DELAY, LONGEST_DELAY, STEADY, Life, Supervisor, ended, started


def die_at_once(times: int) -> list[float]:
    """Return the pauses before each restart of a child that never lives."""
    supervisor, now, pauses = Supervisor(), 0.0, []
    for _ in range(times):
        supervisor.started("a", now)
        life = supervisor.ended("a", now)
        assert life.due is not None
        pauses.append(life.due - now)
        now = life.due
    return pauses


def test_the_pause_doubles_up_to_its_limit() -> None:
    assert die_at_once(7) == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_child_that_was_steady_begins_again_with_the_shortest_pause() -> None:
    worn = Life(since=100.0, delay=8.0, deaths=5)
    assert ended(worn, 100.0 + STEADY) == Life(due=100.0 + STEADY + FIRST_DELAY, delay=1.0, deaths=1)


def test_a_child_that_ends_before_it_is_steady_keeps_its_past() -> None:
    worn = Life(since=100.0, delay=8.0, deaths=5)
    assert ended(worn, 129.9) == Life(due=137.9, delay=10.0, deaths=6)


def test_a_child_is_due_only_after_its_pause() -> None:
    supervisor = Supervisor()
    supervisor.started("a", 0.0)
    supervisor.ended("a", 1.0)
    assert supervisor.due(1.49) == []
    assert supervisor.due(1.5) == ["a"]


def test_children_that_are_due_come_in_the_order_of_their_time() -> None:
    supervisor = Supervisor()
    for name, at in (("late", 2.0), ("early", 1.0)):
        supervisor.started(name, 0.0)
        supervisor.ended(name, at)
    assert supervisor.due(10.0) == ["early", "late"]


def test_a_child_that_was_started_is_up_and_not_due() -> None:
    supervisor = Supervisor()
    supervisor.started("a", 0.0)
    supervisor.ended("a", 1.0)
    assert supervisor.up(["a", "unknown"]) == []
    supervisor.started("a", 2.0)
    assert supervisor.up(["a", "unknown"]) == ["a"]
    assert supervisor.due(100.0) == []


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=30))
def test_every_pause_is_within_its_limits(lives: list[float]) -> None:
    life, now = Life(), 0.0
    for lived in lives:
        life = started(life, now)
        assert life.due is None
        now += lived
        life = ended(life, now)
        assert life.due is not None
        assert FIRST_DELAY <= round(life.due - now, 6) <= LONGEST_DELAY
        now = life.due
