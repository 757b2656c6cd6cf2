from stack.waits import Waits, so_far


def test_what_takes_longer_than_3_s_is_named_then_every_10_s_and_later_every_minute() -> None:
    waits, named = Waits(), []
    waits.began("kafka", 100.0)
    for tenth in range(2400):
        named += [round(taken) for _, taken in waits.overdue(100.0 + tenth / 10)]
    assert named == [3, 10, 20, 30, 40, 50, 60, 120, 180]


def test_what_came_is_named_no_more_and_has_taken_its_time() -> None:
    waits = Waits()
    waits.began("kafka", 1.0)
    waits.began("redis", 1.0)
    assert waits.over("redis", 1.5) == 0.5
    assert [name for name, _ in waits.overdue(9.0)] == ["kafka"]
    assert waits.over("unknown", 9.0) == 0.0


def test_a_late_look_names_it_once() -> None:
    waits = Waits()
    waits.began("kafka", 0.0)
    assert waits.overdue(55.0) == [("kafka", 55.0)]
    assert waits.overdue(55.1) == []


def test_the_line_says_what_for_and_why() -> None:
    assert so_far("waiting for kafka", 3.2) == "waiting for kafka, 3 s so far"
    assert so_far("waiting for kafka", 3.2, "no answer") == "waiting for kafka, 3 s so far: no answer"
