"""The hub: every session of this process, by id and by partition; it carries out what sessions and the feed want.

Deliveries are handed to all sessions first and flushed after that, so a session gets one write for all that is ready.
"""

import asyncio
import random
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from gateway import codes
from gateway.auth import Claims, Verifier
from gateway.config import GatewayConfig
from gateway.effects import Acknowledge, AnnouncePartition, AskSync, CheckToken, Connect, FeedEffect, SessionEffect
from gateway.feed import Feed
from gateway.outbox import Outbox, partition_of
from gateway.peer import Peer, Transport
from gateway.revocations import Revocations
from gateway.session import Identity, Session
from gateway.wheel import Wheel
from schemas.bus import Beat, Packed, Part
from schemas.errors import BadToken
from schemas.records import Ack, Connected, OpenSession, SyncRequest
from telemetry.gateway import GatewayMetrics

CHUNK: Final = 256  # sessions that are flushed before others may run
RESYNC: Final = 200  # sessions that are synced at once, every RESYNC_PAUSE s
RESYNC_PAUSE: Final = 0.02
UNKNOWN: Final = 200  # sessions that are disowned a second
FORGOTTEN: Final = 10.0  # s in which a session that has ended is not disowned: the worker is being told
DRAIN_STEP: Final = 0.05


class Hub:
    """All sessions of a gateway process. `now` is monotonic seconds everywhere."""

    def __init__(
        self,
        config: GatewayConfig,
        partitions: int,
        metrics: GatewayMetrics,
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        """`partitions` is the count of the topic `connections`; `wake` is called when the outbox has something."""
        self.config = config
        self.clock = clock
        self.feed = Feed(config.id)
        self.outbox = Outbox(config.id, wake)
        self.metrics = metrics
        self.revocations = Revocations()
        self.verifier = Verifier(config.secret, refuses=self.revocations.refuses)
        self.sessions: dict[str, Peer] = {}
        self.draining = False
        # Four visits between a ping that is due and the end of patience; half a second does for the rest.
        self.wheel = Wheel(max(0.01, min(0.5, (config.idle - config.heartbeat) / 4, config.heartbeat / 4)), clock())
        self._partitions = partitions
        self._by_partition: defaultdict[int, set[Peer]] = defaultdict(set)
        self._numbered = 0
        self._suspects: OrderedDict[Peer, None] = OrderedDict()  # each once, however often something was lost
        self._ended: dict[str, float] = {}  # sessions that ended or were disowned, by the time
        self._disowned = 0  # since the last turn of the wheel
        self._wall_ms = 0.0
        metrics.connections.set_function(lambda: len(self.sessions))
        metrics.socket_bytes.set_function(lambda: sum(peer.session.out.filled for peer in self.sessions.values()))
        metrics.held_runs.set_function(lambda: sum(peer.session.held() for peer in self.sessions.values()))

    # Sessions come and go

    def admit(self, transport: Transport, claims: Claims, *, hello: bool, now: float) -> Peer:
        """Begin a session for a transport whose token is good."""
        self._numbered += 1
        identity = Identity(f"{self.config.id}-{self._numbered}", self.config.id, claims.user, claims.device)
        session = Session(
            identity, ttl=claims.ttl, heartbeat=self.config.heartbeat, now=now, hello=hello, pace=self.config.pace
        )
        peer = Peer(session, transport, partition_of(claims.user, self._partitions), claims)
        self.sessions[session.id] = peer
        self._by_partition[peer.partition].add(peer)
        self.metrics.opened.inc()
        self.flush(peer, now)
        return peer

    def gone(self, peer: Peer, code: int, now: float) -> None:
        """Forget a session whose transport has ended, and tell its worker. Repeating it does nothing."""
        session = peer.session
        if self.sessions.pop(session.id, None) is None:
            return
        session.closed = True
        self._by_partition[peer.partition].discard(peer)
        self._ended[session.id] = now
        if session.connected:
            self.outbox.disconnected(peer.partition, session.user, session.id)
        self.metrics.closed.labels(code).inc()
        if code == codes.SLOW:
            self.metrics.slow.inc()

    # From transports

    def receive(self, peer: Peer, data: bytes, now: float) -> None:
        """Take a text message of a client."""
        self.metrics.frames_received.inc()
        peer.session.receive(data, now)
        self.flush(peer, now)

    def buffered(self, peer: Peer, size: int, now: float) -> None:
        """Learn how many bytes a transport holds now."""
        peer.session.buffered(size, now)
        self.flush(peer, now)

    def tick(self, peer: Peer, now: float) -> float:
        """Let a session do what is due; return when to come again."""
        peer.session.tick(now)
        self.flush(peer, now)
        return peer.session.due()

    def flush(self, peer: Peer, now: float) -> None:
        """Send what is ready in one write, and carry out what the session wants."""
        session, out = peer.session, peer.session.out
        peer.dirty = False
        while out.frames or out.effects:
            if out.frames:
                frames, out.frames = out.frames, []
                waiting = peer.transport.send(frames)
                if out.entries:
                    self._measure(out.entries)
                    out.entries = []
                session.buffered(waiting, now)
            if out.effects:
                effects, out.effects = out.effects, []
                for effect in effects:
                    self._carry_out(peer, effect, now)
                out.later = True
        if out.later:
            out.later = False
            self.wheel.schedule(peer.transport, session.due())

    def _measure(self, entries: list[tuple[str, int]]) -> None:
        counts, observe, wall_ms = self.metrics.deliveries.counts, self.metrics.latency.observe, time.time() * 1000
        for log, ts in entries:
            counts[log] = counts.get(log, 0) + 1
            if ts:
                observe((wall_ms - ts) / 1000)

    def _carry_out(self, peer: Peer, effect: SessionEffect, now: float) -> None:
        session, partition = peer.session, peer.partition
        match effect:
            case Acknowledge(log, delivered, read):
                self.outbox.acknowledge(partition, Ack(session.user, session.device, log, delivered, read))
            case AskSync(log, after, limit, asked):
                request = SyncRequest(session.user, session.id, session.device, log, after, limit, asked)
                self.outbox.sync(partition, request)
            case Connect():
                self._connect(peer, effect)
            case CheckToken(token, ref):
                self._refresh(peer, token, ref, now)
            case _:
                peer.transport.close(effect.code, effect.reason)

    def _connect(self, peer: Peer, effect: Connect) -> None:
        session = peer.session
        if effect.cursors:
            self.metrics.reconnects.inc()
        record = Connected(
            user=session.user,
            session=session.id,
            gateway=self.config.id,
            device=session.device,
            transport=peer.transport.kind,
            epoch=effect.epoch,
            cursors=effect.cursors,
        )
        self.outbox.connected(peer.partition, record)

    def _refresh(self, peer: Peer, token: str, ref: str | None, now: float) -> None:
        session = peer.session
        try:
            claims = self.verifier.check(token)
        except BadToken as exc:
            session.refuse_token(str(exc), ref, now)
            return
        if session.accepts(claims.user, claims.device):
            peer.claims = claims
            session.refresh(claims.ttl, now)
        else:
            session.refuse_token("the token is for another user or device", ref, now)

    # From the bus

    async def take(self, message: Packed | Beat) -> None:
        """Hand a message of the bus to the sessions it is for; a long one lets others run in between."""
        now = self.clock()
        parts, effects = self.feed.take(message, now)
        self._follow(effects, now)
        touched: list[Peer] = []
        for part in parts:
            for peer in self._hand_out(part, now):
                if not peer.dirty:
                    peer.dirty = True
                    touched.append(peer)
                if len(touched) >= CHUNK:
                    self._flush_all(touched, now)
                    await asyncio.sleep(0)
                    now = self.clock()
        self._flush_all(touched, now)

    def _hand_out(self, part: Part, now: float) -> Iterable[Peer]:
        sessions = self.sessions
        for opening in part.openings:
            if (peer := sessions.get(opening.session)) is not None:
                peer.session.open(opening, now)
                yield peer
        for delivery in part.deliveries:
            for session in delivery.sessions:
                if (peer := sessions.get(session)) is not None:
                    peer.session.deliver(delivery.runs, now)
                    yield peer
                else:
                    self._disown(delivery.user, session, now)
        for answer in part.answers:
            if (peer := sessions.get(answer.session)) is not None:
                peer.session.answer(answer, now)
                yield peer

    def _flush_all(self, touched: list[Peer], now: float) -> None:
        for peer in touched:
            self.flush(peer, now)
        touched.clear()

    def _disown(self, user: str, session: str, now: float) -> None:
        """Tell the worker that a session is not here, so that it forgets it."""
        self.metrics.unknown.inc()
        if self._disowned < UNKNOWN and session not in self._ended:
            self._disowned += 1
            self._ended[session] = now
            self.outbox.disconnected(partition_of(user, self._partitions), user, session)

    def _follow(self, effects: Iterable[FeedEffect], now: float) -> None:
        for effect in effects:
            if isinstance(effect, AnnouncePartition):
                self._announce(effect.partition, effect.epoch)
            else:
                for partition in effect.partitions:
                    self._suspects.update(dict.fromkeys(self._by_partition[partition]))
        if self._suspects:
            self._sync_some(now)

    def _announce(self, partition: int, epoch: int) -> None:
        opened = [(peer.session, peer.transport.kind) for peer in self._by_partition[partition] if peer.session.opened]
        sessions = [OpenSession(s.user, s.id, s.device, kind, s.cursors()) for s, kind in opened]
        if sessions:
            self.outbox.announce(partition, epoch, sessions)

    def suspect_all(self, now: float) -> None:
        """Sync every session, at a pace: the connection to the bus was lost."""
        self.feed.restart()
        self._suspects.clear()
        self._suspects.update(dict.fromkeys(self.sessions.values()))
        self._sync_some(now)

    def _sync_some(self, now: float) -> None:
        for _ in range(min(RESYNC, len(self._suspects))):
            peer, _ = self._suspects.popitem(last=False)
            self.metrics.resyncs.inc()
            peer.session.suspect(now)
            self.flush(peer, now)

    # From the clock

    async def run(self) -> None:
        """Turn the wheel and pace the syncs until cancelled."""
        next_turn = 0.0
        while True:
            await asyncio.sleep(RESYNC_PAUSE if self._suspects else min(0.1, self.wheel.step))
            now = self.clock()
            if self._suspects:
                self._sync_some(now)
            self._follow(self.feed.tick(now), now)
            if now >= next_turn:
                next_turn = now + self.wheel.step
                self.wheel.turn(now)
                self._account(now)

    def _account(self, now: float) -> None:
        self._disowned = 0
        while self._ended and (first := next(iter(self._ended))) and now - self._ended[first] > FORGOTTEN:
            del self._ended[first]
        metrics = self.metrics
        metrics.fenced.set(self.feed.fenced)
        metrics.gaps.set(self.feed.gaps)
        metrics.dropped_acks.set(self.outbox.dropped_acks)
        metrics.outbox_waiting.set(self.outbox.waiting())
        metrics.resyncs_waiting.set(len(self._suspects))

    async def drain(self, window: float, jitter: Callable[[], float] = random.random) -> None:
        """Send every client away, spread over `window` seconds; each is asked to come back within a second."""
        self.draining = True
        peers = list(self.sessions.values())
        steps = max(1, int(window / DRAIN_STEP))
        for step in range(steps):
            now = self.clock()
            for peer in peers[step::steps]:
                peer.session.drain(int(jitter() * 1000))
                self.flush(peer, now)
            if not self.sessions:
                return
            await asyncio.sleep(DRAIN_STEP)
