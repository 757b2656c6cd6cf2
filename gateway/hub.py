"""The hub: lets sessions begin and end, brings them what clients say, and carries out what they want."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gateway import codes
from gateway.admission import LIMITS, Admission
from gateway.auth import Claims, Verifier
from gateway.config import GatewayConfig
from gateway.credentials import DIFFER
from gateway.dispatch import RESYNC_PAUSE, Dispatch
from gateway.effects import Acknowledge, AskSync, CheckToken, Connect, SameToken, SessionEffect
from gateway.feed import Feed
from gateway.jwks import Jwks
from gateway.keys import Keyring, given_keys
from gateway.outbox import Outbox, partition_of
from gateway.peer import Peer, Transport
from gateway.proving import Prover
from gateway.reading import NEVER
from gateway.revocations import Revocations
from gateway.roster import Roster
from gateway.session import Identity, Session
from gateway.wheel import Wheel
from schemas.errors import BadToken
from schemas.records import Ack, Connected, SyncRequest
from telemetry.gateway import GatewayMetrics

log = logging.getLogger(__name__)

DRAIN_STEP: Final = 0.05
SAID: Final = 60.0  # s between two log lines about one limit


def call_later(wait: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    """Call something once, in `wait` s, by the loop that runs."""
    return asyncio.get_running_loop().call_later(wait, call)


class Hub:
    """All sessions of a gateway process. `now` is monotonic seconds everywhere."""

    def __init__(
        self,
        config: GatewayConfig,
        partitions: int,
        metrics: GatewayMetrics,
        clock: Callable[[], float],
        wake: Callable[[], None],
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle] = call_later,
    ) -> None:
        """`partitions` is the count of the topic `connections`; `wake` is called when the outbox has something.

        `later` calls something once, after so many seconds.
        """
        self.config = config
        self.clock = clock
        self.later = later
        self.outbox = Outbox(config.id, wake, dropped=self._dropped)
        self.metrics = metrics
        self.admission = Admission(config.addresses, config.quotas, self.limited)
        self.revocations = Revocations()
        self.ring = Keyring(given_keys(config.secret, config.key_files))
        metrics.keys.set_function(lambda: len(self.ring.keys))
        self.jwks = Jwks(config.jwks, self.ring, config.jwks_tls, self._count_reading) if config.jwks else None
        verifier = Verifier(self.ring, config.rules, refuses=self.revocations.refuses)
        self.prover = Prover(verifier, self.jwks.again if self.jwks else None)
        self.roster = Roster()
        self.dispatch = Dispatch(
            Feed(config.id),
            self.roster,
            self.outbox,
            metrics,
            partitions=partitions,
            clock=clock,
            flush=self.flush,
            fail=self.fail,
        )
        for limit in LIMITS:
            metrics.limited.add(limit, 0)
        self.draining = False
        # Four visits between a ping that is due and the end of patience; half a second does for the rest.
        self.wheel = Wheel(max(0.01, min(0.5, (config.idle - config.heartbeat) / 4, config.heartbeat / 4)), clock())
        self._partitions = partitions
        self._numbered = 0
        self._said: dict[str, float] = {}  # when the log last spoke of a limit
        metrics.connections.set_function(lambda: len(self.sessions))
        metrics.socket_bytes.set_function(lambda: sum(peer.session.out.filled for peer in self.sessions.values()))
        metrics.held_runs.set_function(lambda: sum(peer.session.held() for peer in self.sessions.values()))

    def _count_reading(self, result: str) -> None:
        self.metrics.key_readings.labels(result).inc()

    @property
    def sessions(self) -> dict[str, Peer]:
        """Every session, by id."""
        return self.roster.sessions

    # Sessions come and go

    def admit(self, transport: Transport, claims: Claims, *, hello: bool, now: float) -> Peer:
        """Begin a session for a transport whose token is good."""
        self._numbered += 1
        identity = Identity(f"{self.config.id}-{self._numbered}", self.config.id, claims.user, claims.device)
        partition = partition_of(claims.user, self._partitions)
        session = Session(
            identity,
            ttl=claims.ttl,
            heartbeat=self.config.heartbeat,
            now=now,
            hello=hello,
            allowance=self.admission.users.hold(claims.user),
            pace=self.config.pace,
        )
        peer = Peer(session, transport, partition, claims)
        self.roster.add(peer)
        self.metrics.opened.inc()
        self.flush(peer, now)
        return peer

    def gone(self, peer: Peer, code: int, now: float) -> None:
        """Forget a session whose transport has ended, and tell its worker. Repeating it does nothing."""
        session = peer.session
        if not self.roster.remove(peer, now):
            return
        session.closed = True
        self.admission.users.let_go(session.user, now)
        if session.connected:
            self.outbox.disconnected(peer.partition, session.user, session.id)
        self.metrics.closed.labels(codes.label_of(code)).inc()
        if code == codes.SLOW:
            self.metrics.slow.inc()

    # What goes wrong stays in one session

    def fail(self, peer: Peer, exc: Exception, now: float) -> None:
        """End a session in which an exception was raised."""
        session = peer.session
        log.error("session %s of client %r failed and is closed", session.id, session.client, exc_info=exc)
        if self.sessions.get(session.id) is not peer:
            return  # it was on its way out
        self.metrics.failed.inc()
        session.fail()
        try:
            peer.transport.close(codes.RESTART, codes.REASONS[codes.RESTART])
        except Exception:
            log.exception("the transport of session %s cannot be closed and is cut off", session.id)
            peer.transport.abort()
        self.gone(peer, codes.RESTART, now)

    def _dropped(self, session: str | None, exc: Exception) -> None:
        """Take note of a record that cannot be written, and of which session it is where that is known."""
        log.error("a record of session %s cannot be written and is dropped", session, exc_info=exc)
        self.metrics.dropped_records.inc()
        if session is not None and (peer := self.sessions.get(session)) is not None:
            self.fail(peer, exc, self.clock())

    def limited(self, limit: str, whom: str) -> None:
        """Count a limit that was reached, and say now and then by whom."""
        self.metrics.limited.add(limit)
        now = self.clock()
        if now >= self._said.get(limit, 0.0):
            self._said[limit] = now + SAID
            log.warning(
                "limit %s: %r is over it; others that are over it are only counted for %.0f s", limit, whom, SAID
            )

    # From transports

    def receive(self, peer: Peer, data: bytes, now: float) -> None:
        """Take a text message of a client."""
        self.receive_all(peer, (data,), now)

    def receive_all(self, peer: Peer, messages: Sequence[bytes], now: float) -> None:
        """Take the text messages that one read of a client's socket has brought."""
        self.metrics.frames_received.value += len(messages)
        try:
            peer.session.receive_all(messages, now)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(peer, exc, now)
        else:
            self.flush(peer, now)

    def buffered(self, peer: Peer, size: int, now: float) -> None:
        """Learn how many bytes a transport holds now."""
        try:
            peer.session.buffered(size, now)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(peer, exc, now)
        else:
            self.flush(peer, now)

    def tick(self, peer: Peer, now: float) -> float:
        """Let a session do what is due; return when to come again."""
        try:
            peer.session.tick(now)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(peer, exc, now)
            return NEVER
        self.flush(peer, now)
        return peer.session.due()

    def flush(self, peer: Peer, now: float) -> None:
        """Send what is ready in one write, and carry out what the session wants. What it raises ends the session."""
        peer.dirty = False
        try:
            self._flush(peer, now)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(peer, exc, now)

    def _flush(self, peer: Peer, now: float) -> None:
        session, out = peer.session, peer.session.out
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
                    self._carry_out(peer, effect)
                    out.later = out.later or type(effect) is not Acknowledge  # it is due to nothing later
        if out.limited:
            self.limited(out.limited, session.user)
            out.limited = ""
        if out.later:
            out.later = False
            self.wheel.schedule(peer.transport, session.due())
        session.clear(peer.transport.way)

    def _measure(self, entries: list[tuple[str, int]]) -> None:
        wall = time.time()
        for log, ts in entries:
            self.metrics.delivered(log, ts, 1, wall)

    def _carry_out(self, peer: Peer, effect: SessionEffect) -> None:
        session, partition = peer.session, peer.partition
        match effect:
            case Acknowledge(log, delivered, read):
                if not self.outbox.acknowledge(partition, Ack(session.user, session.device, log, delivered, read)):
                    self.limited("user_acks", session.user)
            case AskSync(log, after, limit, asked):
                request = SyncRequest(session.user, session.id, session.device, log, after, limit, asked)
                self.outbox.sync(partition, request)
            case Connect():
                self._connect(peer, effect)
            case CheckToken(token, ref):
                self.prover.prove(token, session.user, partial(self._refresh, peer, ref))
            case SameToken(token):
                self.prover.prove(token, session.user, partial(self._compare, peer))
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

    def _refresh(self, peer: Peer, ref: str | None, verdict: Claims | BadToken) -> None:
        """Take the verdict on the token of a `refresh`."""
        now = self.clock()
        if peer.session.closed:
            return
        try:
            self._take_token(peer, ref, verdict, now)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(peer, exc, now)
        else:
            self.flush(peer, now)

    def _take_token(self, peer: Peer, ref: str | None, verdict: Claims | BadToken, now: float) -> None:
        session = peer.session
        if isinstance(verdict, BadToken):
            session.refuse_token(str(verdict), ref, now)
        elif session.accepts(verdict.user, verdict.device):
            peer.claims = verdict
            session.refresh(verdict.ttl, now)
        else:
            session.refuse_token("the token is for another user or device", ref, now)

    def _compare(self, peer: Peer, verdict: Claims | BadToken) -> None:
        """End a session whose `hello` brings another token than its request."""
        same = isinstance(verdict, Claims) and (verdict.user, verdict.token) == (peer.claims.user, peer.claims.token)
        if same or peer.session.closed:
            return
        try:
            peer.session.close(codes.BAD_TOKEN, DIFFER)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(peer, exc, self.clock())
        else:
            self.flush(peer, self.clock())

    # From the clock

    async def run(self) -> None:
        """Turn the wheel and pace the syncs until cancelled."""
        next_turn = 0.0
        while True:
            await asyncio.sleep(RESYNC_PAUSE if self.dispatch.suspects else min(0.1, self.wheel.step))
            now = self.clock()
            self.dispatch.tick(now)
            if now >= next_turn:
                next_turn = now + self.wheel.step
                self.wheel.turn(now)
                self._account(now)

    def _account(self, now: float) -> None:
        self.dispatch.account(now)
        self.admission.forget(now)
        self.metrics.dropped_acks.set(self.outbox.dropped_acks)
        self.metrics.outbox_waiting.set(self.outbox.waiting())

    async def drain(self, window: float, jitter: Callable[[], float] = random.random) -> None:
        """Send every client away, spread over `window` seconds; each is asked to come back within a second."""
        self.draining = True
        peers = list(self.sessions.values())
        steps = max(1, int(window / DRAIN_STEP))
        for step in range(steps):
            now = self.clock()
            for peer in peers[step::steps]:
                self._send_away(peer, int(jitter() * 1000), now)
            if not self.sessions:
                return
            await asyncio.sleep(DRAIN_STEP)

    def _send_away(self, peer: Peer, after: int, now: float) -> None:
        try:
            peer.session.drain(after)
        except Exception as exc:  # noqa: BLE001 - `fail` logs it
            self.fail(peer, exc, now)
        else:
            self.flush(peer, now)
