"""What sessions ask for is answered in pieces that fit in memory."""

from hypothesis import given
from hypothesis import strategies as st

from agents.answers import LARGEST_PIECE, PIECE, PIECE_BYTES, Asked, next_piece
from schemas.logs import INBOX_LOGS
from schemas.records import Announce, Connected, Sync, SyncRequest


def sync(user: str) -> SyncRequest:
    return SyncRequest(user=user, session=f"s-{user}", device="web", log=min(INBOX_LOGS), after=0, limit=10, asked=True)


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


@given(weights=st.lists(st.integers(0, 3_000_000), min_size=1, max_size=300))
def test_a_piece_takes_little_more_than_its_share_of_memory_once_requests_are_known_to_be_heavy(
    weights: list[int],
) -> None:
    heaviest, size = max(weights), PIECE
    for weight in weights:
        size = next_piece(size, size * weight)
        assert 1 <= size <= LARGEST_PIECE
        assert size == 1 or size * weight <= PIECE_BYTES
    assert next_piece(LARGEST_PIECE, LARGEST_PIECE * heaviest) <= max(1, PIECE_BYTES // max(1, heaviest))


def test_pieces_grow_while_requests_are_light() -> None:
    assert next_piece(PIECE, 0) == 2 * PIECE
    assert next_piece(LARGEST_PIECE, 0) == LARGEST_PIECE
