"""Whatever a batch holds, a consumer gets something for each of its offsets, in bounded memory, and goes on."""

import inspect
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cramjam
import pytest
from aiokafka.consumer import fetcher
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from links import unpacking
from links.codecs import gunzip, unlz4
from links.misfits import Misfit
from links.records import Found, Head, Unread, body_of, records_of
from links.unpacking import Fetched, Unpacking
from schemas.limits import KEPT_VALUE, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY, POSITION_HEADER, record_limits

TP = TopicPartition("p.notifications.normal", 1)
HEAD = 61  # bytes of a batch before its records
LZ4, ZSTD = 3, 4

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


@pytest.fixture(autouse=True)
def _installed() -> None:
    unpacking.install(record_limits)
    Unpacking._failed.clear()
    Unpacking._told.clear()


def batch(*records: Record, base: int = 0, codec: int = 0) -> bytearray:
    builder = BatchBuilder(1 << 27, codec)
    for key, value, headers in records:
        assert builder.append(timestamp=7, key=key, value=value, headers=headers)
    made = bytearray(builder._build())
    made[:8] = base.to_bytes(8, "big")
    return made


def note(value: bytes = b"{}", key: bytes = b"u", headers: Sequence[tuple[str, bytes | None]] = ()) -> Record:
    return key, value, list(headers)


def signed(changed: bytearray) -> bytes:
    """Give a batch the checksum and the length that it has now."""
    changed[8:12] = (len(changed) - 12).to_bytes(4, "big")
    changed[17:21] = calc_crc32c(bytes(changed[21:])).to_bytes(4, "big")
    return bytes(changed)


def fetch(data: bytes, offset: int = 0, tp: TopicPartition = TP) -> list[Any]:
    """Return what one fetch from an offset brings."""
    return list(Unpacking(tp, Fetched(data), [], offset, None, None, True, fetcher.READ_UNCOMMITTED))


def read(data: bytes, end: int, offset: int = 0) -> Iterator[Any]:
    """Fetch as the client does: again from where the last fetch ended."""
    for _ in range(100):
        records = Unpacking(TP, Fetched(data), [], offset, None, None, True, fetcher.READ_UNCOMMITTED)
        yield from records
        offset = records.next_fetch_offset
        if offset >= end:
            return
    pytest.fail("it does not go on")


def test_the_client_still_has_what_is_replaced() -> None:
    source = inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "records = MemoryRecords(part_data[-1])" in source
    assert "partition_records = PartitionRecords(" in source
    assert (fetcher.MemoryRecords, fetcher.PartitionRecords) == (Fetched, Unpacking)
    for module in unpacking._decoding():
        assert module.gzip_decode is gunzip
        assert module.lz4_decode is unlz4


@pytest.mark.parametrize("codec", [0, 1, 2, LZ4, ZSTD])
def test_whole_batches_are_read_as_ever(codec: int) -> None:
    headers: list[tuple[str, bytes | None]] = [("trace", b"1"), ("none", None)]
    data = bytes(batch(note(b"1"), (None, b"2", headers), codec=codec)) + bytes(batch((b"k", None, []), base=2))
    found = [(one.offset, one.key, one.value, one.headers, one.timestamp) for one in fetch(data)]
    assert found == [(0, b"u", b"1", (), 7), (1, None, b"2", tuple(headers), 7), (2, b"k", None, (), 7)]
    assert [one.offset for one in fetch(data, 1)] == [1, 2]


def test_a_header_whose_name_is_not_utf8_costs_nobody_anything() -> None:
    for codec in (0, ZSTD):
        made = batch(note(b"1"), note(b"2", headers=[("zz", b"x")]), note(b"3"), codec=0)
        made[made.index(b"zz") : made.index(b"zz") + 2] = b"\xff\xfe"
        if codec:
            made[HEAD:] = bytes(cramjam.zstd.compress(bytes(made[HEAD:])))
            made[22] |= codec
        found = fetch(signed(made) + bytes(batch(note(b"4"), base=3)))
        assert [one.value for one in found] == [b"1", b"2", b"3", b"4"]
        assert found[1].headers == (("\ufffd\ufffd", b"x"),)


def test_a_record_that_cannot_be_read_is_named_and_its_neighbours_are_read() -> None:
    made = batch(note(b"1"), note(b"two"), note(b"3"))
    made[made.index(b"two") - 1] = 100  # the value goes beyond its record
    one, two, three = fetch(signed(made))
    assert (one.value, three.value) == (b"1", b"3")
    assert isinstance(two.value, Misfit)
    assert (two.offset, two.value.first, two.value.code) == (1, 1, "unreadable")


def test_what_follows_a_record_without_an_end_is_named_as_one() -> None:
    made = batch(note(b"1"), *[note(b"two")] * 4)
    at = made.index(b"two") - 6
    made[at - 1] = 0x7E  # its length
    found = fetch(signed(made)[: len(made)] + bytes(batch(note(b"6"), base=5)))
    assert found[-1].value == b"6"
    assert {one.offset for one in found} >= {0, 4, 5}


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "checksum": lambda made: made[:-1] + bytes([made[-1] ^ 1]),
    "codec that does not exist": lambda made: signed(bytearray(made[:22]) + bytes([made[22] | 5]) + made[23:]),
    "not packed as it says": lambda made: signed(bytearray(made[:22]) + bytes([made[22] | ZSTD]) + made[23:]),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_batch_that_cannot_be_unpacked_is_read_twice_and_passed_over(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = bytes(BROKEN[how](bytes(batch(note(b"1"), note(b"2"), note(b"3"), base=5))))
    data = bytes(batch(*[note()] * 5)) + broken + bytes(batch(note(b"last"), base=8))
    assert [one.offset for one in fetch(data)] == [0, 1, 2, 3, 4]  # the network may have broken it
    misfit, last = fetch(data, 5)
    assert (misfit.offset, misfit.value.first, misfit.value.code, misfit.key) == (7, 5, "unreadable", None)
    assert last.value == b"last"
    assert [one.offset for one in fetch(data, 6)] == []  # elsewhere it is another failure
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert "p.notifications.normal, partition 1: what lies at offsets 5 to 7 cannot be read" in line


def test_offsets_that_are_not_there_are_no_part_of_a_batch_that_cannot_be_read() -> None:
    data = bytes(BROKEN["checksum"](bytes(batch(note(b"1"), note(b"2"), base=9))))
    (misfit,) = read(data, 11, 5)
    assert (misfit.value.first, misfit.offset) == (9, 10)


def test_a_batch_whose_head_contradicts_itself_is_passed_over_one_offset_at_a_time() -> None:
    made = batch(note(b"1"), note(b"2"), base=5)
    made[23:27] = (1 << 30).to_bytes(4, "big")  # its last offset: what follows it must not be skipped
    assert [(one.value.first, one.offset) for one in read(bytes(made), 7, 5)] == [(5, 5), (6, 6)]


def test_a_batch_that_is_right_the_second_time_is_read() -> None:
    right = bytes(batch(note(b"1"), note(b"2")))
    assert fetch(BROKEN["checksum"](right)) == []
    assert [one.value for one in fetch(right)] == [b"1", b"2"]


@given(st.integers(0, 80), st.integers(0, 255), st.integers(0, 150))
def test_whatever_is_broken_each_fetch_goes_on(at: int, byte: int, cut: int) -> None:
    made = batch(note(b"11"), note(b"22"), note(b"33"))
    size = len(made)
    made[at % size] = byte
    if at >= 21:
        made[17:21] = calc_crc32c(bytes(made[21:])).to_bytes(4, "big")
    if 8 <= at < 12:  # where it ends is what the broker says
        made[8:12] = (size - 12).to_bytes(4, "big")
    if at < 8:
        made[:8] = bytes(8)
    found = list(read(bytes(made), 3)) if at not in range(23, 27) else []  # which offsets it has as well
    assert all(type(one.value) in (bytes, Misfit, type(None)) for one in found)
    if found:
        assert max(one.offset for one in found) == 2


def test_a_bomb_is_refused_as_too_large_and_costs_no_more_than_its_bound() -> None:
    packed = bytes(cramjam.zstd.compress(bytes(1 << 30)))
    made = batch(note(b"1"), note(b"2"))
    made[HEAD:] = packed
    made[22] |= ZSTD
    data = signed(made) + bytes(batch(note(b"next"), base=2))
    misfit, following = read(data, 3)
    assert (misfit.value.code, misfit.value.first, misfit.offset) == ("too_large", 0, 1)
    assert following.value == b"next"


def test_records_that_unpack_to_20_mb_are_cut_one_by_one() -> None:
    data = bytes(batch(*[note(bytes(20 << 20))] * 3, codec=LZ4))
    assert len(data) < 300_000
    tracemalloc.start()
    found = fetch(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(one.value.code, len(one.value.kept), one.value.cut) for one in found] == [
        ("too_large", KEPT_VALUE, f"value={20 << 20}")
    ] * 3
    assert peak < 160 << 20  # the batch as it is unpacked, its copy in the client, and one of the records


def test_10_000_records_that_unpack_to_much_do_not_stay() -> None:
    data = bytes(batch(*[note(bytes(6_000))] * 10_000, codec=ZSTD))
    assert len(data) < 100_000
    assert sum(len(one.value) for one in fetch(data)) == 60_000_000


OVER: dict[str, tuple[Record, str]] = {
    "value": (note(b"x" * (KEPT_VALUE + 1)), f"value={KEPT_VALUE + 1}"),
    "key": (note(key=b"k" * 900_000), "key=900000"),
    "many headers": (note(headers=[("a", b"b")] * 10_000), "headers=10000"),
    "large header": (note(headers=[("a", b"b" * 1_000_000), ("c", b"d")]), "headers=2"),
    "large name": (note(headers=[("a" * 100_000, b"b")]), "headers=1"),
    "large id": (note(headers=[(POSITION_HEADER, b"i" * 100_000)]), "headers=1"),
    "many ids": (note(headers=[(POSITION_HEADER, b"i" * 1_000)] * 100), "headers=100"),
    "all": (note(bytes(1 << 20), b"k" * 5_000, [("a", b"b")] * 65), f"headers=65,key=5000,value={1 << 20}"),
}


@pytest.mark.parametrize("what", OVER)
def test_what_is_over_the_limits_of_a_record_is_cut_and_said(what: str) -> None:
    record, cut = OVER[what]
    for codec in (0, LZ4):
        (found,) = fetch(bytes(batch(record, codec=codec)))
        assert isinstance(found.value, Misfit)
        assert (found.value.code, found.value.cut, bytes(found.value)) == ("too_large", cut, b"")
        assert len(found.key) <= MAX_KEY
        assert len(found.value.kept or b"") <= KEPT_VALUE
        assert len(found.headers) <= MAX_HEADERS + 1
        assert sum(len(name) + len(text) for name, text in found.headers) <= MAX_HEADER_BYTES + 2_000


def test_what_is_just_within_the_limits_is_handed_on_also_with_the_id_that_a_moved_record_gets() -> None:
    headers: list[tuple[str, bytes | None]] = [("a", b"b" * 255)] * MAX_HEADERS
    assert sum(1 + len(text or b"") for _, text in headers) == MAX_HEADER_BYTES
    record = note(b"x" * KEPT_VALUE, b"k" * MAX_KEY, [*headers, (POSITION_HEADER, b"i" * 1_024)])
    (found,) = fetch(bytes(batch(record)))
    assert (found.value, found.headers) == (record[1], tuple(record[2]))


def test_what_only_we_write_may_be_large() -> None:
    state = note(bytes(1 << 20), b"k" * 10_000)
    (found,) = fetch(bytes(batch(state)), tp=TopicPartition("tocsin-inbox-connections-changelog", 0))
    assert (found.key, found.value) == state[:2]


# -- record by record --------------------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
some = st.none() | st.binary(max_size=300)
made_records = st.lists(st.tuples(some, some, st.lists(st.tuples(names, some), max_size=3)), min_size=1, max_size=5)


@given(made_records)
def test_our_own_reading_is_that_of_the_client(records: list[Record]) -> None:
    made = bytes(batch(*[(k, b"" if k is None and v is None else v, h) for k, v, h in records], base=9))
    head = Head.of(made)
    assert head is not None
    ours = list(records_of(head, bytes(body_of(made))))
    assert [tuple(one) for one in ours] == [
        (one.offset, one.timestamp, one.key, one.value, one.headers) for one in fetch(made)
    ]


@given(st.binary(max_size=100), st.integers(0, 5))
def test_rubbish_is_named_up_to_the_last_offset(body: bytes, count: int) -> None:
    head = Head(base=10, last=14, codec=0, append_time=False, first_time=0, max_time=0, records=count)
    due = 10
    for one in records_of(head, body):
        first, last = (one.offset, one.offset) if isinstance(one, Found) else (one.first, one.last)
        assert due <= first
        assert last <= 14 or isinstance(one, Unread)
        due = last + 1
