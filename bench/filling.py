"""Fills a store with rows of users who are not measured, so that it is as large as after years."""

import asyncio
import random
import sys
import time
from typing import Final

from schemas.frames import notification_frame
from schemas.logs import log_key
from schemas.records import Notification
from schemas.rows import Append, Row
from store.port import Store
from store.urls import open_store

LOG: Final = "inbox/normal"
ROWS: Final = 100  # of each user
AT_ONCE: Final = 16  # appends in flight
SAY_EVERY: Final = 10.0  # s
WORDS: Final = 18  # of a body, about 110 bytes
_DIGEST: Final = bytes(16)
_ENDS: Final = ("a", "em", "ing", "o")
_VOCABULARY: Final = [f"{a}{b}{c}" for a in ("ba", "ste", "o", "ri", "ko") for b in "lnrst" for c in _ENDS]


def history(user: str) -> Append:
    """Return all rows of a user."""
    dice, now = random.Random(user), 1_700_000_000_000

    def said() -> Notification:
        body = " ".join(dice.choices(_VOCABULARY, k=WORDS))
        return Notification(user=user, kind="order.paid", title="Your order is paid", body=body)

    rows = [
        Row(
            seq=seq, src=seq, n=seq, key=f"{user}-{seq}", digest=_DIGEST, ts=now, expires=0, device="",
            frame=notification_frame(said(), log=LOG, seq=seq, n=seq, id_=f"{user}-{seq}", ts_ms=now),
        )
        for seq in range(1, ROWS + 1)
    ]  # fmt: skip
    return Append(log=log_key(LOG, user), epoch=1, rows=rows)


async def fill(url: str, rows: int) -> None:
    """Append so many rows, about; raises `StoreError`."""
    store = open_store(url)
    await store.open()
    try:
        await _fill(store, rows // ROWS)
    finally:
        await store.close()


async def _fill(store: Store, users: int) -> None:
    waiting: set[asyncio.Task[None]] = set()
    said = time.monotonic()
    for number in range(users):
        if len(waiting) >= AT_ONCE:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        waiting.add(asyncio.create_task(store.append([history(f"old{number}")])))
        if time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            print(f"the store has {number * ROWS:,} of {users * ROWS:,} rows", file=sys.stderr)
    await asyncio.gather(*waiting)
