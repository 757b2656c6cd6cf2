"""The rule of the connections: the open sessions of a user, where a session starts, and what it is sent.

Pure: no clock, no I/O. Cursors are watermarks that only grow, so acks may come in any order and more than once.
"""

from collections.abc import Iterable, Sequence

import msgspec

from schemas.bus import GAP, Run
from schemas.records import Connected
from schemas.rows import Cursor, Device, Row
from streams.collapse import MERGED
from streams.collapse import merged as merged_seqs


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a session is."""

    gateway: str
    device: str


Sessions = dict[str, Place]  # open sessions of a user, by session id
Cursors = dict[str, dict[str, Cursor]]  # what a user's devices have: {device: {log: cursor}}


def merged(cursors: Iterable[Cursor]) -> Cursors:
    """Return cursors of one user by device and log; of several for the same, the highest watermarks."""
    result: Cursors = {}
    for cursor in cursors:
        logs = result.setdefault(cursor.device, {})
        known = logs.get(cursor.log)
        logs[cursor.log] = cursor if known is None else known.merged(cursor)
    return result


def standing(device: str, known: Device | None, cursors: Iterable[Cursor], oldest: float) -> Cursors:
    """Return the cursors that decide where a session of a device starts, given what the store knows of it.

    A device that was not seen since `oldest` (s since 1970) counts as one that never was.
    """
    if known is not None and known.seen < oldest:
        return merged(cursor for cursor in cursors if cursor.device != device)
    began = [Cursor(known.user, log, device, seq, 0) for log, seq in known.starts.items()] if known else []
    return merged([*began, *cursors])


def stored_cursor(cursors: Cursors, device: str, log: str) -> int:
    """Return where a session without a cursor of its own starts.

    That is its device's stored cursor; if the device has none in this log, or no name, what no device of the user has
    acknowledged yet.
    """
    known = cursors.get(device, {}).get(log) if device else None
    if known is not None:
        return known.delivered
    return max((logs[log].delivered for logs in cursors.values() if log in logs), default=0)


def read_mark(cursors: Cursors, log: str) -> int:
    """Return up to where the user has read a log, on any device."""
    return max((logs[log].read for logs in cursors.values() if log in logs), default=0)


def start_of(said: Connected, *, log: str, head: int, epoch: str, cursors: Cursors, limit: int) -> tuple[int, str]:
    """Return (after, notice) for a session in a log: where it starts, and why it does not start at its own cursor.

    A cursor counts only with the epoch of the store it was made with, and only up to the head. More than `limit`
    entries are not sent unasked.
    """
    stored = min(stored_cursor(cursors, said.device, log), head)
    own = (said.cursors or {}).get(log)
    after, notice = (stored, "") if own is None else (own, "")
    if own is not None and (said.epoch != epoch or own > head):
        after, notice = stored, "reset"
    if head - after > limit:
        return head, "too_long"
    return after, notice


def run_of(row: Row, log: str, device: str, now_ms: int) -> Run:
    """Return an entry as a device sees it: the frame, or why there is nothing for it."""
    reason = row.skip
    if row.device and row.device != device:
        reason = "other_device"
    elif row.expires and row.expires <= now_ms:
        reason = reason or "expired"
    if reason:
        return skipped(row, log, reason)
    return Run(log=log, first=row.seq, last=row.seq, ts=row.ts, frame=row.frame)


def skipped(row: Row, log: str, reason: str) -> Run:
    """Return a run that says why there is nothing to show."""
    return Run(log=log, first=row.seq, last=row.seq, reason=reason)


def runs_of(rows: Sequence[Row], log: str, device: str, now_ms: int) -> list[Run]:
    """Return entries that are sent together as a device sees them."""
    replaced = merged_seqs(rows, log, device, now_ms)
    if not replaced:
        return [run_of(row, log, device, now_ms) for row in rows]
    return [skipped(row, log, MERGED) if row.seq in replaced else run_of(row, log, device, now_ms) for row in rows]


def window(rows: Sequence[Row], *, log: str, device: str, head: int, now_ms: int, limit_bytes: int) -> list[Run]:
    """Return the runs of rows for a device, joined where there is nothing to show, at most about `limit_bytes`.

    What is left up to `head` is named by a last run with reason `GAP`: it exists, and the session asks for it.
    """
    runs: list[Run] = []
    size = 0
    last = rows[0].seq - 1 if rows else head
    for run in runs_of(rows, log, device, now_ms):
        size += len(run.frame or b"")
        if size > limit_bytes and runs:
            break
        if run.frame is None and runs and runs[-1].reason == run.reason and runs[-1].frame is None:
            runs[-1] = msgspec.structs.replace(runs[-1], last=run.last)
        else:
            runs.append(run)
        last = run.last
    if last < head:
        runs.append(Run(log=log, first=last + 1, last=head, reason=GAP))
    return runs
