"""Whose request for rows is answered next: urgent logs first, users in turn, within their budgets."""

from hypothesis import given
from hypothesis import strategies as st

from agents.answers import Asking
from agents.waiting import FORGET_ABOVE, Budgets, SyncQueue
from schemas.logs import INBOX_LOGS
from schemas.records import SyncRequest
from streams.limits import Limit

SECOND = 1_000_000


def asking(user: str, session: str, log: int = 1, after: int = 0) -> Asking:
    return Asking(0, "g", SyncRequest(user, session, "d", INBOX_LOGS[log], after, 10))


def names(taken: list[Asking]) -> list[str]:
    return [one.request.session for one in taken]


def test_users_take_turns_however_much_one_of_them_asks_for() -> None:
    queue = SyncQueue(Budgets(None))
    for number in range(100):
        queue.put(asking("eve", f"e{number}"))
    for user in ("ann", "bob"):
        queue.put(asking(user, user))
    assert names(queue.take(4, 0.0)) == ["e0", "ann", "bob", "e1"]
    assert len(queue) == 98


def test_urgent_logs_come_first() -> None:
    queue = SyncQueue(Budgets(None))
    for log in (2, 1, 0):
        queue.put(asking("ann", f"s{log}", log))
    assert names(queue.take(9, 0.0)) == ["s0", "s1", "s2"]
    assert queue.due() is None


def test_what_is_put_back_is_next_unless_a_later_request_came() -> None:
    queue = SyncQueue(Budgets(None))
    for session in ("s", "t", "u"):
        queue.put(asking("ann", session))
    taken = queue.take(2, 0.0)
    queue.put(asking("ann", "s", after=7))
    queue.put_back(taken)
    found = queue.take(9, 0.0)
    assert sorted(names(found)) == ["s", "t", "u"]
    assert {one.request.session: one.request.after for one in found}["s"] == 7
    assert len(queue) == 0


def test_a_budget_is_that_of_the_limit_and_comes_back_with_time() -> None:
    budgets = Budgets(Limit(100, 10 * SECOND))
    assert budgets.due("ann") <= 0.0
    budgets.charge("ann", 100, 50.0)
    assert budgets.due("ann") == 50.0
    budgets.charge("ann", 20, 50.0)
    assert budgets.due("ann") == 52.0
    assert budgets.due("bob") <= 0.0
    assert Budgets(None).due("ann") == 0.0


def test_budgets_of_users_who_have_all_of_it_again_are_forgotten() -> None:
    budgets = Budgets(Limit(100, SECOND))
    for number in range(5 * FORGET_ABOVE):
        budgets.charge(f"u{number}", 1, number * 1.0)
    assert len(budgets._full) <= FORGET_ABOVE + 1


def test_who_is_over_the_budget_waits_until_it_is_due() -> None:
    budgets = Budgets(Limit(10, 10 * SECOND))
    queue = SyncQueue(budgets)
    budgets.charge("eve", 15, 0.0)
    queue.put(asking("eve", "e"))
    queue.put(asking("ann", "a"))
    assert names(queue.take(9, 1.0)) == ["a"]
    assert (queue.due(), queue.parked) == (5.0, 1)
    queue.put(asking("eve", "e2"))
    assert names(queue.take(9, 4.9)) == []
    assert names(queue.take(9, 5.0)) == ["e", "e2"]
    assert (queue.due(), queue.parked) == (None, 0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 2)),
        st.tuples(st.just("take"), st.integers(1, 4), st.integers(0, 30), st.booleans()),
    ),
    max_size=60,
)


@given(steps)
def test_every_request_is_taken_once_or_replaced(said: list[tuple[object, ...]]) -> None:
    budgets = Budgets(Limit(10, 10 * SECOND))
    queue, waiting, now = SyncQueue(budgets), dict[tuple[str, str], Asking](), 0.0
    for number, (kind, *rest) in enumerate(said):
        if kind == "put":
            user, session, log = str(rest[0]), f"{rest[0]}{rest[1]}", int(str(rest[2]))
            one = asking(user, session, log, after=number)
            assert queue.put(one) == ((session, INBOX_LOGS[log]) in waiting)
            waiting[session, INBOX_LOGS[log]] = one
        else:
            count, rows, back = int(str(rest[0])), int(str(rest[1])), bool(rest[2])
            taken = queue.take(count, now)
            assert len(taken) <= count
            if back:
                queue.put_back(taken)
            else:
                for one in taken:
                    assert waiting.pop((one.request.session, one.request.log)) == one
                    budgets.charge(one.request.user, rows, now)
            now += 3.0
        assert len(queue) == len(waiting)
    while (due := queue.due()) is not None:
        for one in queue.take(99, due):
            assert waiting.pop((one.request.session, one.request.log)) == one
    assert not waiting
