"""What sessions ask for is answered in pieces that are small in memory and in time."""

from hypothesis import given
from hypothesis import strategies as st

from agents.answers import LARGEST_PIECE, PIECE, PIECE_BYTES, PIECE_ROWS, Asked, Pieces, Plan
from schemas.logs import INBOX_LOGS, log_key
from schemas.records import Announce, Connected, Sync, SyncRequest
from schemas.rows import Head, Range


def sync(user: str, limit: int = 10) -> SyncRequest:
    log = min(INBOX_LOGS)
    return SyncRequest(user=user, session=f"s-{user}", device="web", log=log, after=0, limit=limit, asked=True)


def connected(user: str) -> Connected:
    return Connected(user=user, session=f"s-{user}", gateway="g", device="web", transport="ws")


def test_the_pieces_together_ask_for_what_was_asked_for() -> None:
    asked = Asked({0: 1, 1: 1})
    asked.add(0, connected("ann"))
    asked.add(1, Sync(gateway="g", syncs=[sync("bob"), sync("cid"), sync("dot")]))
    asked.add(0, Announce(gateway="g", partition=0, epoch=1, sessions=[]))
    pieces = [asked.piece(first, 2) for first in range(0, len(asked), 2)]
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert [one for piece in pieces for one in piece.connected] == asked.connected
    assert [one for piece in pieces for one in piece.syncs] == asked.syncs
    assert [one for piece in pieces for one in piece.announced] == asked.announced


def test_what_is_urgent_is_answered_first() -> None:
    asked = Asked({0: 1})
    syncs = [
        SyncRequest(user=user, session=f"s-{user}", device="web", log=log, after=0, limit=10, asked=False)
        for user in ("ann", "bob")
        for log in reversed(INBOX_LOGS)
    ]
    asked.add(0, Sync(gateway="g", syncs=syncs))
    asked.add(0, connected("cid"))
    asked.sort()
    assert len(asked.piece(0, 3).connected) == 1
    assert [(sync.user, sync.log) for _, _, sync in asked.syncs] == [
        (user, log) for log in INBOX_LOGS for user in ("ann", "bob")
    ]


def plans(syncs: list[SyncRequest], head: int) -> Pieces:
    """Return the pieces of an answer to syncs of logs that are `head` entries long."""
    asked = Asked({0: 1})
    asked.add(0, Sync(gateway="g", syncs=syncs))
    heads = {log_key(sync.log, sync.user): Head(seq=head, src=0, n=0) for sync in syncs}
    return Pieces(asked, lambda some: Plan(some, heads, {}, "epoch", 1_000))


@given(
    sizes=st.lists(st.integers(0, 600), min_size=1, max_size=300),
    weights=st.lists(st.integers(0, 3_000_000), min_size=300, max_size=300),
)
def test_every_request_is_in_one_piece_and_a_piece_has_few_rows(sizes: list[int], weights: list[int]) -> None:
    syncs = [sync(f"u{number}", limit=size) for number, size in enumerate(sizes)]
    pieces, found, weighed = plans(syncs, 600), list[Range](), iter(weights)
    while plan := pieces.next():
        assert len(plan.ranges) <= LARGEST_PIECE
        assert plan.rows <= PIECE_ROWS or len(plan.ranges) == 1
        assert plan.rows == sum(wanted.last - wanted.first + 1 for wanted in plan.ranges)
        found += plan.ranges
        pieces.took(next(weighed))
    assert sorted((r.log, r.last) for r in found) == sorted(
        (log_key(one.log, one.user), one.limit) for one in syncs if one.limit
    )


def counted(pieces: Pieces, weight: int) -> list[int]:
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


def test_devices_that_lack_the_same_rows_are_answered_together() -> None:
    asked = Asked({0: 1})
    asked.add(0, Sync(gateway="g", syncs=[sync(user) for user in ("ann", "bob", "ann", "bob")]))
    asked.sort()
    assert [one.user for _, _, one in asked.syncs] == ["ann", "ann", "bob", "bob"]
