"""From the bus to sessions: hands out what a message brings, and syncs the sessions that may have missed something.

Nearly every delivery is one entry that is just what its sessions wait for. Such an entry is framed once and written to
each at once, without becoming an object (`pass_all`); everything else is handed to all sessions first and flushed after
that, so that a session gets one write for all that is ready.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from gateway.effects import AnnouncePartition, FeedEffect
from gateway.feed import Feed
from gateway.outbox import Outbox, partition_of
from gateway.passing import Left, Passed, pass_all
from gateway.peer import Peer
from gateway.roster import Roster
from schemas.bus import Answer, Beat, Delivery, Heard, HeardPart, Opening, Refusal, decode_deliveries
from schemas.records import OpenSession
from telemetry.gateway import GatewayMetrics

log = logging.getLogger(__name__)

CHUNK: Final = 256  # sessions that are served before others may run
RESYNC: Final = 200  # sessions that are synced at once, every RESYNC_PAUSE s
RESYNC_PAUSE: Final = 0.02
UNKNOWN: Final = 200  # sessions that are disowned between two turns of the hub's wheel


class Dispatch:
    """The bus side of a hub. `now` is monotonic seconds.

    `flush` sends what a session has ready, `fail` ends one in which an exception was raised.
    """

    def __init__(
        self,
        feed: Feed,
        roster: Roster,
        outbox: Outbox,
        metrics: GatewayMetrics,
        *,
        partitions: int,
        clock: Callable[[], float],
        flush: Callable[[Peer, float], None],
        fail: Callable[[Peer, Exception, float], None],
    ) -> None:
        self.feed = feed
        self._roster = roster
        self._outbox = outbox
        self._metrics = metrics
        self._partitions = partitions
        self._clock = clock
        self._flush = flush
        self._fail = fail
        self._suspects: OrderedDict[Peer, None] = OrderedDict()  # each once, however often something was lost
        self._disowned = 0
        self._touched: list[Peer] = []  # sessions that were handed something and are not flushed yet
        self._passed: dict[tuple[str, int], int] = {}  # (log, append time): sessions that were sent it and not counted
        self._served = 0  # sessions since others could run

    # What a message brings

    async def take(self, message: Heard | Beat) -> None:
        """Hand a message of the bus to the sessions it is for; a long one lets others run in between."""
        now = self._clock()
        parts, effects = self.feed.take(message, now)
        self._follow(effects, now)
        for _ in self._hand_out(parts):
            if self._served >= CHUNK:
                self._flush_touched()
                self._served = 0
                await asyncio.sleep(0)
        self._flush_touched()

    def _hand_out(self, parts: list[HeardPart]) -> Iterator[None]:
        """Hand out what opens, then what comes, then answers; yield wherever others may run."""
        for part in parts:
            for refusal in part.refusals:
                self._refuse(refusal)
                yield
            for opening in part.openings:
                self._open(opening, self._clock())
                yield
        for others, passed in self._pass_all(parts):
            self._note_passed(passed)
            yield
            for delivery, left in others:
                for sessions in _chunks(delivery.sessions if left is None else left):
                    self._deliver(delivery, sessions, self._clock())
                    yield
        for part in parts:
            for answer in part.answers:
                self._answer(answer, self._clock())
                yield

    def _pass_all(self, parts: list[HeardPart]) -> Iterator[tuple[list[Left], list[Passed]]]:
        """Write entries to sessions that wait for just these; yield, a chunk at a time, what is left and what went."""
        try:
            yield from pass_all([part.deliveries for part in parts], self._roster.logs, decode_deliveries, CHUNK)
        except msgspec.DecodeError as exc:
            log.warning("deliveries cannot be read, the sessions of their partitions ask anew: %s", exc)
            self._ask_anew(parts)
        except Exception:
            log.exception("deliveries cannot be handed out, the sessions of their partitions ask anew")
            self._ask_anew(parts)

    def _ask_anew(self, parts: list[HeardPart]) -> None:
        for part in parts:
            self._suspects.update(dict.fromkeys(self._roster.of_partition(part.partition)))

    def _open(self, opening: Opening, now: float) -> None:
        if (peer := self._roster.sessions.get(opening.session)) is not None:
            try:
                peer.session.open(opening, now)
                self._roster.reads(peer.session)
            except Exception as exc:  # noqa: BLE001 - `fail` logs it
                self._fail(peer, exc, now)
            else:
                self._touch(peer)

    def _refuse(self, refusal: Refusal) -> None:
        if (peer := self._roster.sessions.get(refusal.session)) is not None:
            peer.session.close(refusal.code, refusal.reason)
            self._touch(peer)

    def _answer(self, answer: Answer, now: float) -> None:
        if (peer := self._roster.sessions.get(answer.session)) is not None:
            try:
                peer.session.answer(answer, now)
            except Exception as exc:  # noqa: BLE001 - `fail` logs it
                self._fail(peer, exc, now)
            else:
                self._touch(peer)

    def _deliver(self, delivery: Delivery, sessions: list[str], now: float) -> None:
        for session in sessions:
            if (peer := self._roster.sessions.get(session)) is None:
                self._disown(delivery.user, session, now)
                continue
            try:
                peer.session.deliver(delivery.runs, now)
            except Exception as exc:  # noqa: BLE001 - `fail` logs it
                self._fail(peer, exc, now)
            else:
                self._touch(peer)

    def _note_passed(self, passed: list[Passed]) -> None:
        """Count the sessions that entries were written to."""
        for name, ts, sessions in passed:
            self._served += sessions
            self._passed[name, ts] = self._passed.get((name, ts), 0) + sessions

    def _touch(self, peer: Peer) -> None:
        """Flush a session before others run."""
        self._served += 1
        if not peer.dirty:
            peer.dirty = True
            self._touched.append(peer)

    def _flush_touched(self) -> None:
        now = self._clock()
        touched, self._touched = self._touched, []
        for peer in touched:
            self._flush(peer, now)
        if self._passed:
            wall = time.time()
            for (name, ts), sessions in self._passed.items():
                self._metrics.delivered(name, ts, sessions, wall)
            self._passed.clear()

    def _disown(self, user: str, session: str, now: float) -> None:
        """Tell the worker that a session is not here, so that it forgets it."""
        self._metrics.unknown.inc()
        if self._disowned < UNKNOWN and not self._roster.has_left(session):
            self._disowned += 1
            self._roster.note_left(session, now)
            self._outbox.disconnected(partition_of(user, self._partitions), user, session)

    # What a message means for others

    def _follow(self, effects: Iterable[FeedEffect], now: float) -> None:
        for effect in effects:
            if isinstance(effect, AnnouncePartition):
                self._announce(effect.partition, effect.epoch)
            else:
                for partition in effect.partitions:
                    self._suspects.update(dict.fromkeys(self._roster.of_partition(partition)))
        if self._suspects:
            self._sync_some(now)

    def _announce(self, partition: int, epoch: int) -> None:
        here = self._roster.of_partition(partition)
        sessions: list[OpenSession] = []
        for peer in list(here):
            one = peer.session
            if not one.opened:
                continue
            try:
                sessions.append(OpenSession(one.user, one.id, one.device, peer.transport.kind, one.cursors()))
            except Exception as exc:  # noqa: BLE001 - `fail` logs it
                self._fail(peer, exc, self._clock())
        if sessions:
            self._outbox.announce(partition, epoch, sessions)

    def suspect_all(self, now: float) -> None:
        """Sync every session, at a pace: the connection to the bus was lost."""
        self.feed.restart()
        self._suspects.clear()
        self._suspects.update(dict.fromkeys(self._roster.sessions.values()))
        self._sync_some(now)

    @property
    def suspects(self) -> int:
        """How many sessions wait to be synced."""
        return len(self._suspects)

    def _sync_some(self, now: float) -> None:
        for _ in range(min(RESYNC, len(self._suspects))):
            peer, _ = self._suspects.popitem(last=False)
            self._metrics.resyncs.inc()
            try:
                peer.session.suspect(now)
            except Exception as exc:  # noqa: BLE001 - `fail` logs it
                self._fail(peer, exc, now)
            else:
                self._flush(peer, now)

    # From the clock

    def tick(self, now: float) -> None:
        """Sync some of those who wait for it, and notice streams that have fallen silent."""
        if self._suspects:
            self._sync_some(now)
        self._follow(self.feed.tick(now), now)

    def account(self, now: float) -> None:
        """Allow sessions to be disowned again, forget who left long ago, and say how things are."""
        self._disowned = 0
        self._roster.forget(now)
        self._metrics.fenced.set(self.feed.fenced)
        self._metrics.gaps.set(self.feed.gaps)
        self._metrics.resyncs_waiting.set(len(self._suspects))


def _chunks(sessions: list[str]) -> list[list[str]]:
    if len(sessions) <= CHUNK:
        return [sessions]
    return [sessions[at : at + CHUNK] for at in range(0, len(sessions), CHUNK)]
