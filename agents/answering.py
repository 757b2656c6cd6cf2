"""Answers to what sessions ask: where their logs start, and the rows that they lack, beside the turnstile.

Openings are answered before their records are acked. Requests for rows wait in memory, in turn by user and within each
user's budget; their records are acked at once, for a session asks again until it is answered.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

from agents.answers import LARGEST_PIECE, Asked, Asking, Plan, Requested, Size, in_turn
from agents.cursors import CursorWriter
from agents.devices import SEEN_AGAIN, Devices
from agents.parts import Parts
from agents.waiting import Budgets, SyncQueue
from schemas.errors import Kind
from schemas.logs import INBOX_LOGS, log_key
from schemas.rows import Device, Head, Range, Row, Standing
from streams.connections import Cursors, Sessions, standing
from streams.failures import PASSING, kind
from streams.runner import RETRY_FIRST, RETRY_MAX
from streams.turnstile import Beside
from telemetry.watchdog import Watch

log = logging.getLogger(__name__)

NAME: Final = "answers"  # to the watchdog and in metrics
RANGES: Final = 256  # ranges asked of the store at once
AT_ONCE: Final = 4  # batches of openings in work
COMPLAIN_EVERY: Final = 10.0  # s


class Answering:
    """Answers sessions. Clients drop what they have, so it may be done again at any time."""

    def __init__(
        self,
        parts: Parts,
        cursors: CursorWriter,
        devices: Devices,
        budgets: Budgets,
        beside: Beside,
        *,
        backlog: int,
        watch: Watch | None = None,
    ) -> None:
        self._backlog = backlog
        self._cursors = cursors
        self._devices = devices
        self._budgets = budgets
        self._beside = beside
        self._watch = watch or Watch()
        self._store = parts.store
        self._producer = parts.producer
        self._publisher = parts.publisher
        self._ownership = parts.ownership
        self._statuses = parts.statuses
        self._logs = parts.logs
        self._connections = parts.connections
        self._metrics = parts.metrics
        self.waiting = SyncQueue(budgets)
        self._size = Size()
        self._more = asyncio.Event()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._complain_at = 0.0
        self._metrics.syncs_waiting.set_function(lambda: len(self.waiting))
        self._metrics.users_over_budget.set_function(lambda: self.waiting.parked)

    async def open(self, epochs: Mapping[int, int], requests: list[Requested]) -> None:
        """Answer openings and announcements. Raises what a server that is away raises.

        While Redis takes nothing the rows are not even read: sessions ask again until they are answered.
        """
        async with self._at_once:
            if not await self._publisher.reaches():
                return
            left, size = in_turn(requests), Size()
            while left:
                async with self._beside.turn():
                    left = left[await self._answered(Asked(epochs, left[:LARGEST_PIECE]), size) :]

    def ask(self, asking: Asking) -> None:
        """Let a request for rows wait for its turn."""
        if self.waiting.put(asking):
            self._metrics.syncs_replaced.inc()
        self._more.set()

    def forget(self) -> None:
        """Forget the requests: the partitions are being given up."""
        self.waiting.clear()

    async def answer_for_ever(self) -> None:
        """Answer requests for rows as they come, until cancelled."""
        pause = RETRY_FIRST
        while True:
            wait = await self._due()
            try:
                async with asyncio.timeout(wait):
                    await self._more.wait()
            except TimeoutError:
                pass
            self._more.clear()
            self._watch.alive(NAME)
            try:
                await self.answer_some()
                pause = RETRY_FIRST
            except Exception as exc:
                if kind(exc) not in PASSING:
                    raise
                log.warning("%s: %s: %s; trying again", NAME, type(exc).__name__, exc)
                self._metrics.retries.add(NAME)
                self._watch.done(NAME)
                await asyncio.sleep(pause)  # back-off: a server is away
                pause = min(RETRY_MAX, pause * 2)
            finally:
                self._watch.done(NAME)

    async def _due(self) -> float | None:
        """Return in how many seconds a request may be answered; None: none waits."""
        due = self.waiting.due()
        return None if due is None else max(0.0, due - time.monotonic())

    async def answer_some(self) -> None:
        """Answer a piece of what waits. Raises what a server that is away raises; nothing is forgotten then."""
        taken = self.waiting.take(self._size.limit, time.monotonic())
        epochs = dict(self._ownership.epochs)
        requests: list[Requested] = [(asking.partition, asking) for asking in taken if asking.partition in epochs]
        if not requests:
            return
        done = 0
        try:
            if await self._publisher.reaches():
                async with self._beside.turn(urgent=False):
                    done = await self._answered(Asked(epochs, requests), self._size)
            else:
                done = len(requests)
        finally:
            self.waiting.put_back([asking for _, asking in requests[done:] if isinstance(asking, Asking)])

    async def _answered(self, asked: Asked, size: Size) -> int:
        """Answer the first of some requests and return how many; a user whose rows cannot be read gets none."""
        piece = asked.piece(0, size.limit)
        try:
            return await self._answer(piece, size)
        except Exception as exc:
            if kind(exc) is not Kind.REFUSED:
                raise
        for user, alone in piece.by_user().items():
            try:
                await self._answer_all(alone)
            except Exception as exc:
                if kind(exc) is not Kind.REFUSED:
                    raise
                self._give_up(user, len(alone), exc)
        return len(piece)

    async def _answer_all(self, asked: Asked) -> None:
        size, done = Size(), 0
        while done < len(asked):
            done += await self._answer(asked.piece(done, len(asked)), size)

    def _give_up(self, user: str, count: int, reason: Exception) -> None:
        """Leave requests unanswered; their sessions ask again, less and less often."""
        self._metrics.unanswered.inc(count)
        if time.monotonic() >= self._complain_at:
            self._complain_at = time.monotonic() + COMPLAIN_EVERY
            log.error("%d requests of user %r cannot be answered: %s", count, user, reason)

    async def _answer(self, asked: Asked, size: Size) -> int:
        """Answer the first of some requests, as many as are few rows, and return how many they were."""
        heads = await self._heads(asked)
        now = time.time()
        standings = await self._standings(asked)
        cursors = {who: self._deciding(*who, known, now) for who, known in standings.items()}
        epoch = await self._store.epoch()
        steady = time.monotonic()
        thrifty = {said.user for _, said in asked.connected if self._budgets.due(said.user) > steady}
        plan = size.fitted(asked, lambda some: Plan(some, heads, cursors, epoch, self._backlog, thrifty))
        await self._note_devices(plan, standings, now)
        read = await self._carry_out(plan, now)
        for user, rows in plan.costs.items():
            self._budgets.charge(user, rows, steady)
        size.took(read)
        return len(plan.asked)

    async def _standings(self, asked: Asked) -> dict[tuple[str, str], Standing]:
        wanted = sorted({(said.user, said.device) for _, said in asked.connected})
        return dict(zip(wanted, await self._store.standings(wanted, INBOX_LOGS), strict=True)) if wanted else {}

    def _deciding(self, user: str, device: str, known: Standing, now: float) -> Cursors:
        """Return the cursors that decide where a session of a device starts, those under way to the store as well."""
        cursors = [*known.cursors, *self._cursors.pending(user)]
        return standing(device, known.device, cursors, self._devices.oldest(now))

    async def _note_devices(self, plan: Plan, standings: Mapping[tuple[str, str], Standing], now: float) -> None:
        """Note which devices opened, before they are told so: from then on what comes waits for them."""
        notes: dict[tuple[str, str], Device] = {}
        new: list[tuple[str, Sessions]] = []
        for partition, said in plan.asked.connected:
            who = (said.user, said.device)
            if not said.device or who in notes:
                continue
            known = standings[who].device
            if known is not None and known.seen < self._devices.oldest(now):
                known = None
            starts = plan.unknown(said)
            if known is None:
                new.append((said.user, self._connections.get(partition, said.user)))
            elif not starts and now - known.seen < SEEN_AGAIN:
                continue
            notes[who] = Device(*who, int(now), {**(known.starts if known else {}), **starts})
        await self._devices.note(list(notes.values()), new, now)

    async def _carry_out(self, plan: Plan, now: float) -> int:
        """Send what was planned; return how many bytes of rows it took."""
        rows = await self._read(plan.ranges)
        now_ms = round(now * 1000)
        wanted = plan.looked_at(rows, now_ms)
        expiries = dict(zip(wanted, await self._store.expiries(wanted), strict=True)) if wanted else {}
        parts = plan.fanout(rows, now_ms, expiries).parts()
        await self._producer.emit(
            [
                status
                for user, log_, device, found in plan.sent
                for status in self._statuses.merged(user, log_, found, [device], now_ms)
            ]
        )
        await self._publisher.publish(parts)
        return sum(len(row.frame) for found in rows.values() for row in found)

    async def _heads(self, asked: Asked) -> dict[str, Head]:
        """Return the heads of all logs asked for.

        They are read after the sessions were registered, so whatever is appended later reaches them live. Where a
        device has more than the table says, this worker may have been replaced without knowing it: the store is asked.
        """
        claimed = asked.claimed()
        heads: dict[str, Head] = {}
        missing: list[str] = []
        for partition, user, name in asked.logs():
            key = log_key(name, user)
            state = self._logs.get(key, asked.epochs[partition])
            if state is None or state.seq < claimed.get(key, 0):
                missing.append(key)
            else:
                heads[key] = state.head()
        if missing:
            heads |= await self._store.heads(missing, recent=0)
        return heads

    async def _read(self, ranges: list[Range]) -> dict[Range, list[Row]]:
        rows: dict[Range, list[Row]] = {}
        for start in range(0, len(ranges), RANGES):
            part = ranges[start : start + RANGES]
            rows |= dict(zip(part, await self._store.read(part), strict=True))
        return rows
