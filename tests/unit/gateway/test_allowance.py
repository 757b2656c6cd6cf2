"""What the sessions of one user may do together: one budget, however many sessions there are."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway import codes
from gateway.allowance import Allowance, Quotas
from gateway.bucket import Limits
from gateway.effects import AskSync, CloseWith
from gateway.session import Identity, Session
from schemas.bus import Answer, LogOpening, Opening, Run

LOG = "inbox/normal"


def sessions(count: int, quotas: Quotas, head: int = 0) -> list[Session]:
    """Return open sessions of one user."""
    allowance = Allowance(quotas)
    found = [
        Session(Identity(f"s{n}", "g", "u"), ttl=1e9, heartbeat=25, now=1.0, hello=False, allowance=allowance)
        for n in range(count)
    ]
    for one in found:
        one.open(Opening(one.id, "e", [LogOpening(LOG, head, head, 0)]), 1.0)
        one.out.effects.clear()
    return found


def say(one: Session, now: float, **frame: object) -> None:
    one.receive(json.dumps(frame).encode(), now)


@given(costs=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 30)), max_size=60))
def test_a_bucket_is_what_fills_at_a_rate(costs: list[tuple[float, float]]) -> None:
    limits, full_at, left, now = Limits(rate=3, burst=20), 0.0, 20.0, 100.0
    for pause, cost in costs:
        now += pause
        left = min(20.0, left + pause * 3) - cost
        full_at = limits.spent(full_at, now, cost)
        wait = limits.wait(full_at, now)
        if abs(left) > 1e-4:
            assert (wait == 0) is (left > 0)
            assert wait == 0 or abs(wait - -left / 3) < 1e-4


def test_frames_of_all_sessions_are_counted_together_and_who_is_over_is_closed() -> None:
    found = sessions(10, Quotas(frames=Limits(10, 100)))
    for _ in range(10):
        for one in found:
            say(one, 1.0, type="ping")
    assert not any(one.closed for one in found)
    say(found[3], 1.0, type="ping")
    assert found[3].out.effects == [CloseWith(codes.RATE, "rate exceeded")]
    assert found[3].out.limited == "user_frames"
    assert [one.closed for one in found].count(True) == 1


def test_a_sync_costs_as_much_as_its_page_and_waits_for_room() -> None:
    one, other = sessions(2, Quotas(entries=Limits(rate=100, burst=1_000)), head=10_000)
    asked = 0
    for _ in range(20):
        say(one, 1.0, type="sync", log=LOG, after=0, limit=500)
        asked += sum(isinstance(effect, AskSync) for effect in one.out.effects)
        one.out.effects.clear()
    assert asked == 3  # the third begins with what is left
    assert (one.closed, one.out.limited) == (False, "user_entries")
    say(other, 1.0, type="sync", log=LOG, after=9_999, limit=500)
    assert other.out.effects == []
    due = other.due()
    assert 5.9 < due < 6.1
    other.tick(due)
    assert other.out.effects == [AskSync(LOG, 9_999, 500, asked=True)]


def test_a_page_that_the_log_does_not_have_costs_next_to_nothing() -> None:
    (one,) = sessions(1, Quotas(entries=Limits(rate=1, burst=10), frames=None), head=3)
    for _ in range(9):
        say(one, 1.0, type="sync", log=LOG, after=3, limit=1_000)
        assert [type(effect) for effect in one.out.effects] == [AskSync]
        one.out.effects.clear()
        one.answer(Answer(one.id, LOG, 3, 3, [], asked=True), 1.0)


def test_a_sync_that_waited_is_done_when_it_was_answered() -> None:
    (one,) = sessions(1, Quotas(entries=Limits(rate=1, burst=1)), head=3)
    say(one, 1.0, type="sync", log=LOG, after=1)
    one.out.effects.clear()
    one.out.frames.clear()
    say(one, 1.0, type="sync", log=LOG, after=2)
    assert one.out.effects == []
    one.tick(one.due())
    assert one.out.effects == [AskSync(LOG, 2, 500, asked=True)]
    one.answer(Answer(one.id, LOG, 2, 3, [Run(LOG, 3, 3, reason="expired")], asked=True), 9.0)
    assert [json.loads(frame)["type"] for frame in one.out.frames] == ["skip", "synced"]


def test_what_is_read_slows_the_reader_and_ends_nobody() -> None:
    allowance = Allowance(Quotas(reads=Limits(rate=100, burst=200)))
    waits = [allowance.read(1.0, 64, 0) for _ in range(4)]
    assert [wait > 0 for wait in waits] == [False, False, False, True]
    assert allowance.read(1.0 + waits[-1], 0, 0) == 0


def test_without_limits_nothing_is_counted() -> None:
    allowance = Allowance(Quotas(None, None, None, None))
    assert not any(allowance.connect(1.0) or allowance.ask(1.0, 10**9) for _ in range(1_000))
    assert allowance.say(1.0, 1e9)
    assert not allowance.read(1.0, 10**9, 10**9)
    assert allowance.spare(1.0)
