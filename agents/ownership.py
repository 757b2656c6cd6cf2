"""Who may write a partition: the epochs that this worker holds, claimed in the store at each assignment."""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from schemas.errors import StoreError
from store.port import Store
from streams.failures import PASSING, kind

log = logging.getLogger(__name__)


class Ownership:
    """The epochs of the partitions that this worker owns; empty while there are none."""

    def __init__(self, store: Store, stream: str, owner: str) -> None:
        self._store = store
        self._stream = stream
        self._owner = owner
        self._epochs: dict[int, int] = {}
        self._claimed = asyncio.Event()
        self._assignment = 0

    @property
    def epochs(self) -> Mapping[int, int]:
        """{partition: epoch}."""
        return self._epochs

    @property
    def claimed(self) -> bool:
        """Whether the claim of this assignment is done."""
        return self._claimed.is_set()

    async def claim(self, partitions: Iterable[int]) -> None:
        """Claim partitions under a new epoch each, and let the batches that wait go on.

        Raises `StoreError` where the store is not away but broken, or refuses the claim.
        """
        wanted = sorted(set(partitions))
        assignment = self._assignment
        pause = 0.1
        while True:
            try:
                claims = [self._store.claim(self._stream, partition, self._owner) for partition in wanted]
                epochs = dict(zip(wanted, await asyncio.gather(*claims), strict=True))
            except StoreError as exc:
                if kind(exc) not in PASSING:
                    raise
                log.warning("the store did not take the claim of partitions %s: %s; trying again", wanted, exc)
                if assignment != self._assignment:
                    return
                await asyncio.sleep(pause)  # back-off: the store is away
                pause = min(2.0, pause * 2)
            else:
                if assignment == self._assignment:  # else they have been given up meanwhile
                    self._epochs = epochs
                    self._claimed.set()
                return

    def release(self) -> None:
        """Forget the epochs: the partitions are being given up."""
        self._assignment += 1
        self._epochs = {}
        self._claimed.clear()

    async def held(self) -> Mapping[int, int]:
        """Return {partition: epoch} when the claim of this assignment is done.

        Raises `TimeoutError` after a second, so that who waits notices when the partitions are taken away meanwhile.
        """
        if not self._claimed.is_set():
            await asyncio.wait_for(self._claimed.wait(), 1.0)
        return self._epochs
