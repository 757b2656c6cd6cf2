"""What waits to be written to `connections` and `acks`: merged and packed by partition, bounded whatever Kafka does.

Acks merge by max for each (user, device, log), syncs by (session, log), and a session that ends before its `connected`
was taken leaves nothing behind. So while Kafka is away the outbox holds at most a few small values a session, and of
the acks of one user no more than `USER_ACKS`. An item that cannot be written is dropped by itself.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from aiokafka.partitioner import murmur2

from schemas import records
from schemas.limits import CONTROL_PACK
from schemas.logs import INBOX_LOGS
from schemas.records import Ack, Acks, Announce, Connected, Disconnected, OpenSession, Sync, SyncRequest

PACK: Final = 500  # items that one record packs
MAX_ACKS: Final = 100_000  # acks that wait; beyond it new ones are dropped and counted: the client says them again
USER_ACKS: Final = 1_000  # of these, of one user

Record = tuple[bytes, bytes]  # key, value
Dropped = Callable[[str | None, Exception], None]
_Item = TypeVar("_Item", Ack, SyncRequest, OpenSession)


@lru_cache(65_536)
def partition_of(user: str, partitions: int) -> int:
    """Return the partition of a user's records, the one that Kafka's Java client would choose."""
    return (int(murmur2(user.encode())) & 0x7FFFFFFF) % partitions


class Outbox:
    """Records to be written; `urgent` and `acked` are the partitions that have some. `wake` is called when they do."""

    def __init__(self, gateway: str, wake: Callable[[], None], dropped: Dropped | None = None) -> None:
        """Begin with nothing. `dropped` is told of an item that cannot be written: its session, if known, and why."""
        self._gateway = gateway
        self._wake = wake
        self._dropped = dropped
        self._news: defaultdict[int, dict[str, Connected | Disconnected]] = defaultdict(dict)  # by session
        self._syncs: defaultdict[int, dict[tuple[str, str], SyncRequest]] = defaultdict(dict)
        self._acks: defaultdict[int, dict[str, dict[tuple[str, str], Ack]]] = defaultdict(dict)  # by user, device, log
        self._announced: dict[int, tuple[int, list[OpenSession]]] = {}  # (epoch, sessions)
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
        syncs = self._syncs.get(partition, {})
        for log in INBOX_LOGS:
            syncs.pop((session, log), None)
        if isinstance(waiting, Connected) and session not in self._told:
            return  # the worker never heard of it
        self._told.discard(session)
        news[session] = Disconnected(user=user, session=session, gateway=self._gateway)
        self._urge(partition)

    def sync(self, partition: int, request: SyncRequest) -> None:
        """Ask for entries; a later request for the same session and log takes the place of one that waits."""
        self._syncs[partition][request.session, request.log] = request
        self._urge(partition)

    def acknowledge(self, partition: int, ack: Ack) -> bool:
        """Merge an ack; return False where there is no room for it: then it is dropped."""
        users = self._acks[partition]
        acks = users.get(ack.user)
        if acks is None:
            acks = users[ack.user] = {}
        key = (ack.device, ack.log)
        before = acks.get(key)
        if before is not None:
            ack = Ack(ack.user, *key, max(before.delivered, ack.delivered), max(before.read, ack.read))
        elif self._waiting_acks >= MAX_ACKS or len(acks) >= USER_ACKS:
            if not acks:
                del users[ack.user]
            self.dropped_acks += 1
            return False
        else:
            self._waiting_acks += 1
        acks[key] = ack
        self.acked.add(partition)
        self._wake()
        return True

    def _urge(self, partition: int) -> None:
        self.urgent.add(partition)
        self._wake()

    def announce(self, partition: int, epoch: int, sessions: list[OpenSession]) -> None:
        """Say which sessions are open, to the new owner of their partition; an announcement of before is void."""
        self._announced[partition] = (epoch, sessions)
        self._urge(partition)

    def take(self, partition: int, *, acks: bool) -> list[Record]:
        """Remove and return the records that wait for a partition of `acks`, else of `connections`, in their order."""
        if acks:
            return list(self._take_acks(partition))
        self.urgent.discard(partition)
        epoch, sessions = self._announced.pop(partition, (0, []))
        news = self._news.pop(partition, {}).values()
        syncs = list(self._syncs.pop(partition, {}).values())
        taken = list(
            self._packed(
                sessions,
                lambda some: Announce(gateway=self._gateway, partition=partition, epoch=epoch, sessions=some),
            )
        )
        for record in news:
            taken += self._one(record)
        taken += self._packed(syncs, lambda some: Sync(gateway=self._gateway, syncs=some))
        return taken

    def _take_acks(self, partition: int) -> Iterator[Record]:
        acks = [ack for some in self._acks.pop(partition, {}).values() for ack in some.values()]
        self._waiting_acks -= len(acks)
        self.acked.discard(partition)
        return self._packed(acks, lambda some: Acks(gateway=self._gateway, acks=some))

    def _one(self, record: Connected | Disconnected) -> Iterator[Record]:
        try:
            yield record.user.encode(), records.encode(record)
        except Exception as exc:  # noqa: BLE001 - who is told logs it
            self._drop(record.session, exc)
        else:
            if isinstance(record, Connected):
                self._told.add(record.session)

    def _drop(self, session: str | None, exc: Exception) -> None:
        if self._dropped is not None:
            self._dropped(session, exc)

    def _packed(
        self, items: Sequence[_Item], pack: Callable[[list[_Item]], Acks | Announce | Sync]
    ) -> Iterator[Record]:
        """Yield records of so many items, smaller ones where they would be too large or one item cannot be written."""
        for at in range(0, len(items), PACK):
            yield from self._halved(list(items[at : at + PACK]), pack)

    def _halved(self, items: list[_Item], pack: Callable[[list[_Item]], Acks | Announce | Sync]) -> Iterator[Record]:
        try:
            record = items[0].user.encode(), records.encode(pack(items))
        except Exception as exc:  # noqa: BLE001 - who is told logs it
            if len(items) == 1:
                self._drop(getattr(items[0], "session", None), exc)
                return
        else:
            if len(items) == 1 or len(record[1]) <= CONTROL_PACK:
                yield record
                return
        half = len(items) // 2
        yield from self._halved(items[:half], pack)
        yield from self._halved(items[half:], pack)

    def waiting(self) -> int:
        """Return how many items wait."""
        announced = sum(-(-len(sessions) // PACK) for _, sessions in self._announced.values())
        return (
            self._waiting_acks
            + announced
            + sum(len(items) for kind in (self._news, self._syncs) for items in kind.values())
        )
