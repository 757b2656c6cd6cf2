"""How far a consumer group is behind, by what the broker knows: pure values, made by `cli.lag`."""

from collections.abc import Iterable

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """Who reads a partition: its member id, its static name (`TOCSIN_INSTANCE`, may be empty) and its host."""

    member: str
    instance: str
    host: str

    def __str__(self) -> str:
        return f"{self.instance or self.member}@{self.host.removeprefix('/')}"


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a group. Offsets are Kafka's; `first` is the earliest that Kafka still has.

    `committed` is None where the group has committed nothing. `oldest` is the append time (ms since 1970) of the first
    record that is not processed, None if there is none or it could not be read.
    """

    topic: str
    partition: int
    first: int
    end: int
    committed: int | None
    oldest: int | None = None
    owner: Owner | None = None

    @property
    def begin(self) -> int:
        """Where the group goes on."""
        return self.first if self.committed is None else max(self.committed, self.first)

    @property
    def lag(self) -> int:
        """How many records are not processed and still there."""
        return max(0, self.end - self.begin)

    @property
    def lost(self) -> int:
        """How many records Kafka deleted before they were processed."""
        return 0 if self.committed is None else max(0, self.first - self.committed)

    @property
    def remade(self) -> bool:
        """Whether the group is beyond the end: the topic was deleted and made again."""
        return self.committed is not None and self.committed > self.end

    def behind(self, now_ms: int) -> float:
        """Return how many seconds ago the oldest record that is not processed was appended, 0 if there is none."""
        return 0.0 if self.oldest is None else max(0.0, (now_ms - self.oldest) / 1000)


class GroupLag(msgspec.Struct, frozen=True):
    """A group: its name, its state (Stable, Empty, …; empty: the broker does not say) and its partitions."""

    group: str
    state: str
    partitions: list[PartitionLag]

    @property
    def lag(self) -> int:
        """How many records are not processed."""
        return total(self.partitions)

    def behind(self, now_ms: int) -> float:
        """Return the age of the oldest record that is not processed, s."""
        return max((one.behind(now_ms) for one in self.partitions), default=0.0)


def total(partitions: Iterable[PartitionLag]) -> int:
    """Return the lag of some partitions together."""
    return sum(one.lag for one in partitions)
