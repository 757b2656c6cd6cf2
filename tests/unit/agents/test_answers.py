"""What sessions ask for is answered in pieces that are small in memory and in time."""

from hypothesis import given
from hypothesis import strategies as st

from agents.answers import LARGEST_PIECE, PIECE, PIECE_BYTES, PIECE_ROWS, Asked, Asking, Plan, Requested, Size, in_turn
from schemas.logs import INBOX_LOGS, log_key
from schemas.records import Announce, Connected, OpenSession, SyncRequest
from schemas.rows import Cursor, Head, Range
from streams.connections import Cursors

LOG = min(INBOX_LOGS)


def sync(user: str, limit: int = 10, session: str = "") -> Requested:
    session = session or f"s-{user}"
    request = SyncRequest(user=user, session=session, device="web", log=LOG, after=0, limit=limit, asked=True)
    return (0, Asking(0, "g", request))


def connected(user: str, session: str = "") -> Connected:
    return Connected(user=user, session=session or f"s-{user}", gateway="g", device="web", transport="ws")


def test_the_pieces_together_ask_for_what_was_asked_for() -> None:
    announced = Announce(gateway="g", partition=0, epoch=1, sessions=[])
    asked = Asked({0: 1}, [(0, connected("ann")), sync("bob"), sync("cid"), sync("dot"), (0, announced)])
    pieces = [asked.piece(first, 2) for first in range(0, len(asked), 2)]
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert [one for piece in pieces for one in piece.connected] == asked.connected
    assert [one for piece in pieces for one in piece.syncs] == asked.syncs
    assert [one for piece in pieces for one in piece.announced] == asked.announced


def test_each_users_first_opening_comes_before_anybodys_second() -> None:
    hers = [(0, connected("eve", f"s{number}")) for number in range(50)]
    order = in_turn([*hers, (0, connected("ann")), (0, connected("bob"))])
    assert [asked.user for _, asked in order[:4] if isinstance(asked, Connected)] == ["eve", "ann", "bob", "eve"]
    assert len(order) == 52


def test_requests_are_told_apart_by_user_and_announcements_too() -> None:
    sessions = [OpenSession(user, f"s-{user}", "web", "ws", {LOG: 1}) for user in ("ann", "bob")]
    announced = Announce(gateway="g", partition=0, epoch=1, sessions=sessions)
    by_user = Asked({0: 1}, [sync("ann"), (0, announced), (0, connected("bob"))]).by_user()
    assert {user: len(its) for user, its in by_user.items()} == {"ann": 2, "bob": 2}
    assert [said.user for _, one in by_user["bob"].announced for said in one.sessions] == ["bob"]


class Answers:
    """Plans of the requests that are left, as they are answered one after the other."""

    def __init__(self, requests: list[Requested], head: int) -> None:
        self._left = requests
        self._heads = {log_key(LOG, one.request.user): Head(seq=head) for _, one in requests if isinstance(one, Asking)}
        self._size = Size()

    def next(self) -> Plan | None:
        if not self._left:
            return None
        asked = Asked({0: 1}, self._left)
        plan = self._size.fitted(asked, lambda some: Plan(some, self._heads, {}, "epoch", 1_000))
        self._left = self._left[len(plan.asked) :]
        return plan

    def took(self, read: int) -> None:
        self._size.took(read)


def plans(requests: list[Requested], head: int) -> Answers:
    return Answers(requests, head)


@given(
    sizes=st.lists(st.integers(0, 600), min_size=1, max_size=300),
    weights=st.lists(st.integers(0, 3_000_000), min_size=300, max_size=300),
)
def test_every_request_is_in_one_piece_and_a_piece_has_few_rows(sizes: list[int], weights: list[int]) -> None:
    syncs = [sync(f"u{number}", limit=size or 1) for number, size in enumerate(sizes)]
    pieces, found, weighed = plans(syncs, 600), list[Range](), iter(weights)
    while plan := pieces.next():
        assert len(plan.ranges) <= LARGEST_PIECE
        assert plan.rows <= PIECE_ROWS or len(plan.ranges) == 1
        assert plan.rows == sum(wanted.last - wanted.first + 1 for wanted in plan.ranges)
        found += plan.ranges
        pieces.took(next(weighed))
    assert sorted((r.log, r.last) for r in found) == sorted(
        (log_key(LOG, f"u{number}"), size or 1) for number, size in enumerate(sizes)
    )


def counted(pieces: Answers, weight: int) -> list[int]:
    """Return how many requests each piece has, if each of them takes `weight` bytes."""
    counts = []
    while plan := pieces.next():
        counts.append(len(plan.ranges))
        pieces.took(len(plan.ranges) * weight)
    return counts


@given(weight=st.integers(100_000, 10_000_000))
def test_pieces_shrink_to_their_share_of_memory_once_requests_are_known_to_be_heavy(weight: int) -> None:
    first, *others = counted(plans([sync(f"u{number}", limit=1) for number in range(200)], 9), weight)
    assert first == PIECE
    assert all(count == 1 or count * weight <= PIECE_BYTES for count in others)


def test_pieces_grow_while_requests_are_light() -> None:
    counts = counted(plans([sync(f"u{number}", limit=1) for number in range(1_000)], 9), 0)
    assert counts == [32, 64, 128, 256, 256, 256, 8]


def opening(head: int, thrifty: tuple[str, ...] = (), cursors: Cursors | None = None) -> Plan:
    asked = Asked({0: 1}, [(0, connected("ann"))])
    heads = {log_key(log, "ann"): Head(seq=head) for log in INBOX_LOGS}
    return Plan(asked, heads, {("ann", "web"): cursors or {}}, "epoch", 1_000, thrifty)


def test_a_user_over_the_budget_is_told_how_far_the_logs_go_and_asks() -> None:
    plan = opening(50, thrifty=("ann",))
    assert (plan.ranges, plan.costs["ann"]) == ([], 0)
    (part,) = plan.fanout({}, 0, {}).parts()["g"]
    assert [log.head for log in part.openings[0].logs] == [50] * 3
    assert [(run.first, run.last, run.reason) for run in part.deliveries[0].runs] == [(1, 50, "gap")] * 3


def test_an_opening_costs_the_rows_that_it_is_sent() -> None:
    assert opening(50).costs == {"ann": 150}


def test_where_a_device_begins_is_noted_for_the_logs_in_which_it_has_no_cursor() -> None:
    cursors = {
        "web": {LOG: Cursor("ann", LOG, "web", 3, 0)},
        "": {log: Cursor("ann", log, "", 9, 0) for log in INBOX_LOGS},
    }
    (_, said) = opening(50).asked.connected[0]
    assert opening(50, cursors=cursors).unknown(said) == {log: 9 for log in INBOX_LOGS if log != LOG}
    assert opening(5, cursors=cursors).unknown(said) == {log: 5 for log in INBOX_LOGS if log != LOG}
    assert opening(5).unknown(said) == dict.fromkeys(INBOX_LOGS, 0)
