"""How tables get back what their changelogs hold, in place of Faust's way.

Faust hands changelog records one by one through a queue to a task that logs what fails and goes on. Here the consumer
gives each fetch whole, and the files of the partition take it in one write that also carries the offset.

Local files are never trusted further than they can be checked. They are thrown away, and made again from the whole
changelog, if they

- do not open, or break while they are read or written;
- claim an offset that the changelog does not have: the topic was made again, or the files are another's;
- end before the changelog begins, so that what lies between is gone;
- were last known to agree with the changelog longer ago than it keeps the marks of deleted keys.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import mode
from faust.tables import recovery
from faust.tables.manager import TableManager
from faust.types import TP

from links.misfits import Misfit

TRUSTED: Final = 12 * 3600.0  # s; Kafka keeps the marks of deleted keys for 24 h (`delete.retention.ms`)


class TableFiles(Protocol):
    """The local files of a table, by partition."""

    def offset(self, partition: int) -> int | None:
        """Return up to which offset the files hold the changelog; None: nothing is known. Throws broken files away."""

    def age(self, partition: int) -> float:
        """Return for how long the files have not been known to agree with the changelog, s."""

    def recover(self, partition: int, records: Iterable[Any], offset: int) -> None:
        """Apply changelog records; from then on the files hold the changelog up to `offset`."""

    def throw_away(self, partition: int, why: str) -> None:
        """Begin again with empty files, and say why."""


def distrust(have: int | None, first: int, end: int, age: float) -> str | None:
    """Return why files that hold a changelog up to `have` cannot be used; None: they can.

    The changelog has the offsets from `first` on and before `end`.
    """
    if have is None or have == end - 1:
        return None
    if have >= end:
        return f"they are ahead of their changelog: {have} is beyond its end {end}"
    if have < first - 1:
        return f"their changelog begins at {first}, and they end at {have}"
    if age > TRUSTED:
        return f"they were last known to be right {age / 3600:.0f} h ago"
    return None


class Recovery(recovery.Recovery):  # type: ignore[misc]  # Faust has no type information here
    """Fills the tables of an assignment; see the module."""

    tables: "Tables"

    def _set_recovery_started(self) -> None:
        super()._set_recovery_started()
        self.signal_recovery_end.clear()

    def _add(self, table: Any, tp: TP, offsets: dict[TP, int | None]) -> None:
        self.tp_to_table[tp] = table
        offsets[tp] = self.tables.files[tp.topic].offset(tp.partition)  # what was known before an assignment may be old

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: dict[TP, int], title: str) -> None:
        """Decide where reading begins: after what the files hold, or at the beginning where they cannot be trusted."""
        if not tps:
            return
        first: Mapping[TP, int] = await consumer.earliest_offsets(*tps)
        ends: Mapping[TP, int] = await consumer.highwaters(*tps)
        for tp in sorted(tps):
            files = self.tables.files[tp.topic]
            have: int | None = destination[tp]
            if why := distrust(have, first[tp], ends[tp], files.age(tp.partition)):
                files.throw_away(tp.partition, why)
                have = None
            if have is None:
                have = first[tp] - 1
                files.recover(tp.partition, (), have)
            destination[tp] = have
        self.log.info("%s changelogs are read after %r", title, {tp: destination[tp] for tp in sorted(tps)})

    async def _seek_offsets(self, consumer: Any, tps: set[TP], offsets: dict[TP, int], title: str) -> None:  # noqa: ARG002  # Faust's signature
        await consumer.seek_wait({tp: offsets[tp] + 1 for tp in tps})

    def apply(self, tp: TP, records: Sequence[Any]) -> None:
        """Take one fetch of a changelog partition; nothing happens if the partition is not being read."""
        offsets = self._offsets_of(tp)
        if offsets is None:
            return
        new = [record for record in records if record.offset > offsets[tp]]
        if new:
            whole = [record for record in new if not isinstance(record.value, Misfit)]  # the others were logged
            self.tables.files[tp.topic].recover(tp.partition, whole, new[-1].offset)
            offsets[tp] = new[-1].offset
            self._active_events_received_at[tp] = time.monotonic()  # Faust complains of what stands still
        self._look_for_the_end()

    async def nothing_came(self) -> None:
        """Believe the client where a changelog ends with offsets that are no records (control records, compaction)."""
        if not self.in_recovery:
            return
        for tp, left in self.active_remaining().items():
            position = await self.app.consumer.position(tp) if left > 0 else None
            if position is not None and position > self.active_highwaters[tp]:
                self.tables.files[tp.topic].recover(tp.partition, (), position - 1)
                self.active_offsets[tp] = position - 1
        self._look_for_the_end()

    def _offsets_of(self, tp: TP) -> Any:
        if tp in self.active_tps:
            return self.active_offsets
        return self.standby_offsets if tp in self.standby_tps else None

    def _look_for_the_end(self) -> None:
        if self.in_recovery and not self.need_recovery():
            self._set_recovery_ended()
            self.signal_recovery_end.set()

    @mode.Service.task  # type: ignore[untyped-decorator]  # mode has no type information here
    async def _slurp_changelogs(self) -> None:
        """Do nothing: `apply` has taken the place of Faust's queue."""


class Tables(TableManager):  # type: ignore[misc]  # Faust has no type information here
    """Faust's tables with our `Recovery`; `files` are the local files by changelog topic."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._recovery: Recovery | None = None
        self.files: dict[str, TableFiles] = {}

    @property
    def recovery(self) -> Recovery:
        """The recovery of this worker."""
        if self._recovery is None:
            self._recovery = Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
