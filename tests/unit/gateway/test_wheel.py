from hypothesis import given
from hypothesis import strategies as st

from gateway.wheel import SLOTS, Wheel

STEP = 0.5


class Item:
    def __init__(self) -> None:
        self.slot = 0
        self.visits: list[float] = []
        self.next = float("inf")

    def visit(self, now: float) -> float:
        self.visits.append(now)
        due, self.next = self.next, float("inf")
        return due


@given(st.lists(st.floats(0.1, 60), min_size=1, max_size=20))
def test_items_are_visited_when_due_and_at_most_a_step_late(dues: list[float]) -> None:
    wheel = Wheel(STEP, 0.0)
    item = Item()
    for due in dues:
        wheel.schedule(item, due)
    soonest = min(*dues, (SLOTS - 1) * STEP)
    now = 0.0
    while not item.visits:
        now += STEP
        wheel.turn(now)
    assert soonest - STEP <= item.visits[0] <= soonest + STEP + 1e-9
    assert item.slot == 0


def test_an_item_comes_again_when_it_says() -> None:
    wheel = Wheel(STEP, 100.0)
    item = Item()
    item.next = 103.0
    wheel.schedule(item, 101.0)
    for step in range(40):
        wheel.turn(100.0 + step * STEP)
    assert item.visits == [101.0, 103.0]


def test_after_a_long_stop_each_item_is_visited_once() -> None:
    wheel = Wheel(STEP, 0.0)
    items = [Item() for _ in range(50)]
    for number, item in enumerate(items):
        wheel.schedule(item, number * STEP)
    wheel.turn(10_000.0)
    assert [len(item.visits) for item in items] == [1] * 50


def test_what_is_never_due_is_not_on_the_wheel() -> None:
    wheel = Wheel(STEP, 0.0)
    item = Item()
    wheel.schedule(item, float("inf"))
    wheel.turn(1000.0)
    assert item.visits == []
