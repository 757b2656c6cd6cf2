"""What waits to be written to `connections` and `acks`: merged and packed by partition, bounded whatever Kafka does.

Acks merge by max for each (user, device, log), syncs by (session, log), and a session that ends before its `connected`
was taken leaves nothing behind. So while Kafka is away the outbox holds at most a few small values a session.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
from aiokafka.partitioner import murmur2

from schemas import records
from schemas.limits import CONTROL_PACK
from schemas.logs import INBOX_LOGS
from schemas.records import Ack, Acks, Announce, Connected, Disconnected, OpenSession, Sync, SyncRequest

PACK: Final = 500  # items that one record packs
MAX_ACKS: Final = 100_000  # acks that wait; beyond it new ones are dropped and counted: the client says them again

Record = tuple[bytes, bytes]  # key, value


@lru_cache(65_536)
def partition_of(user: str, partitions: int) -> int:
    """Return the partition of a user's records, the one that Kafka's Java client would choose."""
    return (int(murmur2(user.encode())) & 0x7FFFFFFF) % partitions


class Outbox:
    """Records to be written; `urgent` and `acked` are the partitions that have some. `wake` is called when they do."""

    def __init__(self, gateway: str, wake: Callable[[], None]) -> None:
        self._gateway = gateway
        self._wake = wake
        self._news: defaultdict[int, dict[str, Connected | Disconnected]] = defaultdict(dict)  # by session
        self._syncs: defaultdict[int, dict[tuple[str, str], SyncRequest]] = defaultdict(dict)
        self._acks: defaultdict[int, dict[tuple[str, str, str], Ack]] = defaultdict(dict)
        self._announced: defaultdict[int, list[Announce]] = defaultdict(list)
        self._told: set[str] = set()  # sessions whose `connected` was taken
        self._waiting_acks = 0
        self.urgent: set[int] = set()
        self.acked: set[int] = set()
        self.dropped_acks = 0

    def connected(self, partition: int, record: Connected) -> None:
        """Say that a session has opened; saying it again replaces what was not taken yet."""
        self._news[partition][record.session] = record
        self._urge(partition)

    def disconnected(self, partition: int, user: str, session: str) -> None:
        """Say that a session has ended."""
        news = self._news[partition]
        waiting = news.pop(session, None)
        for log in INBOX_LOGS:
            self._syncs[partition].pop((session, log), None)
        if isinstance(waiting, Connected) and session not in self._told:
            return  # the worker never heard of it
        self._told.discard(session)
        news[session] = Disconnected(user=user, session=session, gateway=self._gateway)
        self._urge(partition)

    def sync(self, partition: int, request: SyncRequest) -> None:
        """Ask for entries; a later request for the same session and log takes the place of one that waits."""
        self._syncs[partition][request.session, request.log] = request
        self._urge(partition)

    def acknowledge(self, partition: int, ack: Ack) -> None:
        """Merge an ack."""
        acks = self._acks[partition]
        key = (ack.user, ack.device, ack.log)
        before = acks.get(key)
        if before is not None:
            ack = Ack(*key, max(before.delivered, ack.delivered), max(before.read, ack.read))
        elif self._waiting_acks >= MAX_ACKS:
            self.dropped_acks += 1
            return
        else:
            self._waiting_acks += 1
        acks[key] = ack
        self.acked.add(partition)
        self._wake()

    def _urge(self, partition: int) -> None:
        self.urgent.add(partition)
        self._wake()

    def announce(self, partition: int, epoch: int, sessions: list[OpenSession]) -> None:
        """Say which sessions are open, to the new owner of their partition; an announcement of before is void."""
        self._announced[partition] = [
            Announce(gateway=self._gateway, partition=partition, epoch=epoch, sessions=sessions[at : at + PACK])
            for at in range(0, len(sessions), PACK)
        ]
        self._urge(partition)

    def take(self, partition: int, *, acks: bool) -> list[Record]:
        """Remove and return the records that wait for a partition of `acks`, else of `connections`, in their order."""
        if acks:
            return self._take_acks(partition)
        announced = self._announced.pop(partition, ())
        taken: list[Record] = []
        for one in announced:
            taken += _packed(one.sessions, partial(msgspec.structs.replace, one), "sessions")
        for record in self._news.pop(partition, {}).values():
            if isinstance(record, Connected):
                self._told.add(record.session)
            taken.append((record.user.encode(), records.encode(record)))
        syncs = list(self._syncs.pop(partition, {}).values())
        for at in range(0, len(syncs), PACK):
            taken += _packed(syncs[at : at + PACK], partial(Sync, gateway=self._gateway), "syncs")
        self.urgent.discard(partition)
        return taken

    def _take_acks(self, partition: int) -> list[Record]:
        acks = list(self._acks.pop(partition, {}).values())
        self._waiting_acks -= len(acks)
        self.acked.discard(partition)
        pack = partial(Acks, gateway=self._gateway)
        return [one for at in range(0, len(acks), PACK) for one in _packed(acks[at : at + PACK], pack, "acks")]

    def waiting(self) -> int:
        """Return how many items wait."""
        kinds = (self._news, self._syncs, self._announced)
        return self._waiting_acks + sum(len(items) for kind in kinds for items in kind.values())


def _packed(items: list[Any], made: Callable[..., Any], field: str) -> list[Record]:
    """Return the items as one record, or as several where one would be larger than a worker takes."""
    value = records.encode(made(**{field: items}))
    if len(value) <= CONTROL_PACK or len(items) == 1:
        return [(items[0].user.encode(), value)]
    half = len(items) // 2
    return _packed(items[:half], made, field) + _packed(items[half:], made, field)
