"""Requests for what sessions lack, until they are answered: urgent logs first, users in turn. Pure.

A request costs its page, in rows. A user who is over the budget waits, and nobody else does: a later request of a
session for the same log takes the place of one that waits, so there are never more than sessions times logs.
"""

import heapq
from collections import deque
from typing import Final

from agents.answers import Asking
from schemas.logs import INBOX_LOGS
from streams.limits import Limit

FORGET_ABOVE: Final = 10_000  # users whose budgets are looked through for those that are whole again


class Budgets:
    """How many rows each user may still be sent; times are s of any steady clock."""

    def __init__(self, limit: Limit | None) -> None:
        self._limit = limit
        self._full: dict[str, float] = {}  # by user: when the whole budget is free again
        self._look_above = FORGET_ABOVE

    def charge(self, user: str, rows: int, now: float) -> None:
        """Note that a user was sent rows."""
        if self._limit is None or not rows:
            return
        share = self._limit.window / self._limit.count / 1e6
        self._full[user] = max(self._full.get(user, 0.0), now) + rows * share
        if len(self._full) > self._look_above:
            self._full = {name: full for name, full in self._full.items() if full > now}
            self._look_above = max(FORGET_ABOVE, 2 * len(self._full))

    def due(self, user: str) -> float:
        """Return from when on a user may be sent rows."""
        if self._limit is None:
            return 0.0
        return self._full.get(user, 0.0) - self._limit.window / 1e6


class SyncQueue:
    """Requests that wait, by log and user; all methods cost the same however many wait."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._waiting: dict[tuple[int, str], dict[str, Asking]] = {}  # by log and user: requests by session
        self._turns: list[deque[str]] = [deque() for _ in INBOX_LOGS]  # users of each log, whose turn is next first
        self._parked: list[tuple[float, int, str]] = []  # who is over the budget: until when, log, user
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def parked(self) -> int:
        """How many users wait for their budget, counted for each log."""
        return len(self._parked)

    def put(self, asking: Asking) -> bool:
        """Let a request wait; return whether it took the place of an earlier one."""
        log, user = INBOX_LOGS.index(asking.request.log), asking.request.user
        mine = self._waiting.get((log, user))
        if mine is None:
            mine = self._waiting[log, user] = {}
            self._turns[log].append(user)
        replaced = asking.request.session in mine
        mine[asking.request.session] = asking
        self._count += not replaced
        return replaced

    def put_back(self, taken: list[Asking]) -> None:
        """Let requests that were taken and not answered be the next ones again, unless later ones came."""
        for asking in reversed(taken):
            log, user, session = INBOX_LOGS.index(asking.request.log), asking.request.user, asking.request.session
            mine = self._waiting.get((log, user))
            if mine is None:
                mine = {}
                self._turns[log].appendleft(user)
            if session not in mine:
                self._count += 1
                self._waiting[log, user] = {session: asking, **mine}

    def take(self, count: int, now: float) -> list[Asking]:
        """Remove and return at most `count` requests: one of each user in turn, as long as the budgets allow."""
        self._unpark(now)
        taken: list[Asking] = []
        for log, turns in enumerate(self._turns):
            while turns and len(taken) < count:
                user = turns.popleft()
                mine = self._waiting[log, user]
                if (due := self._budgets.due(user)) > now:
                    heapq.heappush(self._parked, (due, log, user))
                    continue
                taken.append(mine.pop(next(iter(mine))))
                if mine:
                    turns.append(user)
                else:
                    del self._waiting[log, user]
        self._count -= len(taken)
        return taken

    def _unpark(self, now: float) -> None:
        while self._parked and self._parked[0][0] <= now:
            _, log, user = heapq.heappop(self._parked)
            self._turns[log].append(user)

    def due(self) -> float | None:
        """Return from when on a request may be taken; None: none waits."""
        if any(self._turns):
            return 0.0
        return self._parked[0][0] if self._parked else None

    def clear(self) -> None:
        """Forget all requests: sessions ask again."""
        self._waiting.clear()
        self._parked.clear()
        for turns in self._turns:
            turns.clear()
        self._count = 0
