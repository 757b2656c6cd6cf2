"""What operators want of a gateway: to see sessions, to end them, to let tokens count no more."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from gateway import codes
from gateway.hub import Hub
from gateway.peer import Peer
from schemas import bus
from schemas.bus import Found, Inquiry, Sighting
from schemas.records import Revocation

log = logging.getLogger(__name__)

SHOWN: Final = 1_000  # sessions of one user that an answer names

Publish = Callable[[str, bytes], Awaitable[None]]


class Desk:
    """Carries out what operators ask of a hub; answers leave by `publish` (channel, message)."""

    def __init__(self, hub: Hub, publish: Publish) -> None:
        self._hub = hub
        self._publish = publish

    def revoke(self, record: Revocation) -> None:
        """Let tokens count no more, and end the sessions that rest on them."""
        revocations = self._hub.revocations
        now = time.time()
        revocations.forget(now)
        if revocations.take(record, now):
            self._end(peer for peer in self._hub.sessions.values() if revocations.refuses(peer.claims))
        self._hub.metrics.revocations.set(len(revocations))

    async def take(self, message: bus.Message) -> None:
        """Answer an inquiry; everything else on the bus is for the sessions."""
        if not isinstance(message, Inquiry):
            await self._hub.dispatch.take(message)
            return
        found = [peer for peer in self._hub.sessions.values() if _meant(peer, message)]
        answer = Found(self._hub.config.id, list(self._look_at(found[:SHOWN])))
        if message.end:
            self._end(found)
        if found or not message.end:
            log.info("an operator %s %d sessions", "ended" if message.end else "looked at", len(found))
        await self._publish(message.reply, bus.encode(answer))

    def _look_at(self, peers: Iterable[Peer]) -> Iterator[Sighting]:
        for peer in peers:
            try:
                yield _seen(peer)
            except Exception as exc:  # noqa: BLE001 - `fail` logs it
                self._hub.fail(peer, exc, self._hub.clock())

    def _end(self, peers: Iterable[Peer]) -> None:
        now = self._hub.clock()
        for peer in list(peers):
            try:
                peer.session.close(codes.REVOKED)
            except Exception as exc:  # noqa: BLE001 - `fail` logs it
                self._hub.fail(peer, exc, now)
            else:
                self._hub.flush(peer, now)


def _meant(peer: Peer, inquiry: Inquiry) -> bool:
    session = peer.session
    return (
        session.user == inquiry.user
        and inquiry.device in ("", session.device)
        and inquiry.session in ("", session.id)
        and not session.closed
    )


def _seen(peer: Peer) -> Sighting:
    session = peer.session
    return Sighting(
        session=session.id,
        device=session.device,
        transport=peer.transport.kind,
        since=peer.since,
        heads=session.cursors(),
        waiting=session.out.filled,
    )
