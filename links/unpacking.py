"""What consumers make of the batches that they fetch, whatever a producer, a disk or a network put into them.

aiokafka raises for a batch that it cannot read, at the same place for ever, and unpacks and copies whatever size there
is. Here each offset brings something, in bounded memory:

- A batch is unpacked up to a bound (`links.codecs`).
- A record that is larger than its topic's limits is handed on as a `Misfit`, cut.
- A record that cannot be read is a `Misfit`, and its neighbours are read (`links.records`).
- A batch that cannot be unpacked is read again once, since the network may be the cause. Then one `Misfit` at its last
  offset stands for all of it.

There is no public way to do so: `install` puts parts of this module into the place of aiokafka's, for all consumers
of the process. aiokafka is pinned, and a test looks.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record import default_records, legacy_records
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from links.codecs import CannotUnpack, TooLarge, gunzip, unlz4, unpacked, unsnap, unzstd
from links.misfits import TOO_LARGE, UNREADABLE, Limits, Misfit, fitting, fitting_headers, record_of
from links.records import Found, Head, Unread, body_of, records_of

log = logging.getLogger(__name__)

YEAR_10000: Final = 253_402_300_800_000  # ms since 1970
LENGTH: Final = 8  # where a batch says how long it is, not counting this and what comes before
OVERHEAD: Final = 12
CHECKED: Final = 21  # from where on the checksum counts
CHECKSUM: Final = slice(17, 21)


class Fetched:
    """The batches of one fetch of a partition; in the place of aiokafka's `MemoryRecords`, which it asks first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._native = MemoryRecords(data)
        self._taken = 0
        self._at = 0
        self.has_next = self._native.has_next
        self.size_in_bytes = self._native.size_in_bytes

    def next_batch(self) -> Any:
        """Return the next batch. Raises `CorruptRecordException`, and then again and again."""
        return self._native.next_batch()

    def bytes_of(self, number: int) -> memoryview:
        """Return the bytes of a batch by its number; those of batches before it are not asked for any more."""
        while self._taken < number:
            self._at += self._size()
            self._taken += 1
        return memoryview(self._data)[self._at : self._at + self._size()]

    def _size(self) -> int:
        return OVERHEAD + int.from_bytes(self._data[self._at + LENGTH : self._at + OVERHEAD], "big", signed=True)


class Unpacking(PartitionRecords):  # type: ignore[misc]  # no type information is published
    """Reads the records of one fetch of a partition; in the place of aiokafka's `PartitionRecords`."""

    limits_of: Callable[[str], Limits]
    next_fetch_offset: int
    # Of the process, by partition: the offset at which it failed last, and what was logged last.
    _failed: ClassVar[dict[TopicPartition, int]] = {}
    _told: ClassVar[dict[TopicPartition, tuple[int, int]]] = {}

    def __init__(self, tp: TopicPartition, *args: Any) -> None:
        self._limits = type(self).limits_of(tp.topic)
        super().__init__(tp, *args)

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        found = super()._consumer_record(tp, record)
        limits = self._limits
        if (
            found.serialized_value_size > limits.value
            or found.serialized_key_size > limits.key
            or (found.headers and fitting_headers(found.headers, limits)[1])
        ):
            return fitting(found, limits)
        return found

    def _unpack_records(self) -> Iterator[Any]:
        if self._isolation_level == READ_COMMITTED:
            yield from super()._unpack_records()
            return
        number = 0
        while self._records.has_next():
            batch = None
            try:
                batch = self._records.next_batch()
                yield from self._whole(batch)
            except Exception:  # noqa: BLE001 - whatever it is, the next one would meet it again
                if batch is None or self.next_fetch_offset < batch.next_offset:  # else it has no more offsets
                    raw = self._records.bytes_of(number)
                    head = Head.of(raw)
                    body = self._body(raw, head)
                    if isinstance(body, bytes) and head:
                        yield from self._one_by_one(head, body)
                    elif self._again():
                        return
                    else:
                        yield self._misfit(self._range(head), body, head)
                if batch is None:  # where one ends is not known, so neither is where the next one begins
                    return
            number += 1

    def _whole(self, batch: Any) -> Iterator[Any]:
        """Yield the records of a batch as aiokafka reads them."""
        if self._check_crcs and not batch.validate_crc():
            raise CannotUnpack("its checksum is wrong")
        end = batch.next_offset
        if not batch.is_control_batch:
            for record in batch:
                offset = record.offset
                if offset < self.next_fetch_offset:
                    continue
                if offset >= end:
                    raise CannotUnpack("a record's offset is not one of its batch")
                found = self._consumer_record(self._tp, record)
                self.next_fetch_offset = offset + 1
                yield found
        self.next_fetch_offset = max(self.next_fetch_offset, end)

    def _body(self, raw: memoryview, head: Head | None) -> Any:
        """Return the unpacked records of a batch that aiokafka could not read, or why there are none."""
        if head is None:
            return CannotUnpack("its head is broken, or of an old format")
        crc = int.from_bytes(raw[CHECKSUM], "big")
        if self._check_crcs and default_records.calc_crc32c(bytes(raw[CHECKED:])) != crc:
            return CannotUnpack("its checksum is wrong")
        try:
            return unpacked(head.codec, body_of(raw))
        except CannotUnpack as exc:
            return exc

    def _again(self) -> bool:
        """Say whether to read again from here: the first time that it fails."""
        at, before = self.next_fetch_offset, self._failed.get(self._tp)
        self._failed[self._tp] = at
        return at != before

    def _range(self, head: Head | None) -> tuple[int, int]:
        """Return the offsets of a batch that are still to come; of one whose head cannot be believed, only one."""
        first = self.next_fetch_offset
        if head is None or first > head.last or head.records != head.last - head.base + 1:
            return first, first
        return max(first, head.base), head.last

    def _one_by_one(self, head: Head, body: bytes) -> Iterator[Any]:
        for one in records_of(head, body):
            if isinstance(one, Unread):
                if one.last < self.next_fetch_offset:
                    continue
                first = max(one.first, self.next_fetch_offset)
                yield self._misfit((first, one.last), CannotUnpack(one.why), head)
            elif one.offset >= self.next_fetch_offset:
                self.next_fetch_offset = one.offset + 1
                yield self._read(one)
        self.next_fetch_offset = head.last + 1

    def _read(self, one: Found) -> Any:
        record = record_of(self._tp.topic, self._tp.partition, *one)
        return fitting(record, self._limits)

    def _misfit(self, offsets: tuple[int, int], why: CannotUnpack, head: Head | None) -> Any:
        first, last = offsets
        error = f"what lies at offsets {first} to {last} cannot be read: {why}"
        if self._told.get(self._tp) != offsets:  # it may be read more than once
            self._told[self._tp] = offsets
            log.error("%s, partition %d: %s; it is passed over", self._tp.topic, self._tp.partition, error)
        code = TOO_LARGE if isinstance(why, TooLarge) else UNREADABLE
        self.next_fetch_offset = last + 1
        ts = head.max_time if head and 0 <= head.max_time < YEAR_10000 else 0
        misfit = Misfit.of(code, error, first=first, cut="key,value,headers")
        return record_of(self._tp.topic, self._tp.partition, last, ts, None, misfit, ())


def install(limits_of: Callable[[str], Limits]) -> None:
    """Let every consumer of this process read so, with the limits of a record by topic; said before one is made."""
    Unpacking.limits_of = staticmethod(limits_of)
    fetcher.MemoryRecords, fetcher.PartitionRecords = Fetched, Unpacking
    codecs = {"gzip_decode": gunzip, "snappy_decode": unsnap, "lz4_decode": unlz4, "zstd_decode": unzstd}
    for module in _decoding():
        for name, decode in codecs.items():
            if hasattr(module, name):
                setattr(module, name, decode)


def _decoding() -> list[Any]:
    """Return the modules that unpack: those in Python, and those in C where aiokafka has them."""
    modules: list[Any] = [default_records, legacy_records]
    try:
        from aiokafka.record._crecords import default_records as fast  # noqa: PLC0415 - not everywhere there
        from aiokafka.record._crecords import legacy_records as fast_legacy  # noqa: PLC0415
    except ImportError:
        return modules
    return [*modules, fast, fast_legacy]
