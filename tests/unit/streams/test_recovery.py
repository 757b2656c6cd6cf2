"""Recovery: which files are believed, and what is taken from the changelog, by a recovery that is never connected."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from links.misfits import Misfit
from streams.app import make_app
from streams.recovery import TRUSTED, Recovery, distrust
from streams.settings import Settings
from tables.rocks import RocksTable

OFFSETS = st.integers(0, 30)


@given(OFFSETS, st.integers(0, 30), st.integers(0, 30))
def test_files_are_believed_only_if_all_that_they_lack_can_be_read(have: int, first: int, more: int) -> None:
    end = first + more
    lacking = range(have + 1, end)
    believed = distrust(have, first, end, age=0.0) is None
    assert believed == (have < end and all(offset >= first for offset in lacking))


def test_files_without_an_offset_are_empty() -> None:
    assert distrust(None, 0, 10, age=10 * TRUSTED) is None


def test_old_files_may_hold_keys_that_were_deleted_unless_nothing_has_happened_since() -> None:
    assert "12 h ago" in str(distrust(3, 0, 10, age=TRUSTED + 1))
    assert distrust(9, 0, 10, age=TRUSTED + 1) is None


CHANGELOG = TP("tocsin-inbox-sums-changelog", 0)


class Consumer:
    """Answers what recovery asks the broker."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end, self.sought, self.at = first, end, dict[TP, int](), -1

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        return dict.fromkeys(tps, self.first)

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        return dict.fromkeys(tps, self.end)

    async def seek_wait(self, offsets: Mapping[TP, int]) -> None:
        self.sought = dict(offsets)

    async def position(self, _tp: TP) -> int:
        return self.at


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Any]:
    app = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2)
    yield app
    app.consumer._thread.thread_loop.close()  # the loop of a thread that was never started


@pytest.fixture
def table(app: Any) -> RocksTable:
    return RocksTable(app, "sums", partitions=2)


def records(*offsets: int, value: bytes | None = b"v") -> list[Any]:
    return [SimpleNamespace(offset=offset, key=b"k%d" % offset, value=value) for offset in offsets]


async def begun(app: Any, table: RocksTable, consumer: Consumer) -> Recovery:
    """A recovery as far as the seek."""
    recovery: Recovery = app.tables.recovery
    recovery.active_tps.add(CHANGELOG)
    recovery._set_recovery_started()
    recovery._add(table._faust, CHANGELOG, recovery.active_offsets)
    recovery.active_highwaters[CHANGELOG] = consumer.end - 1
    await recovery._build_offsets(consumer, recovery.active_tps, recovery.active_offsets, "active")
    await recovery._seek_offsets(consumer, recovery.active_tps, recovery.active_offsets, "active")
    return recovery


async def test_empty_files_are_filled_from_the_beginning(app: Any, table: RocksTable) -> None:
    consumer = Consumer(first=4, end=8)
    recovery = await begun(app, table, consumer)
    assert consumer.sought == {CHANGELOG: 4}
    recovery.apply(CHANGELOG, records(4, 5))
    assert recovery.in_recovery
    recovery.apply(CHANGELOG, records(7))
    assert not recovery.in_recovery
    assert recovery.signal_recovery_end.is_set()
    assert table.offset(0) == 7
    assert [table.get(0, b"k%d" % number) for number in (4, 5, 6, 7)] == [b"v", b"v", None, b"v"]


async def test_what_cannot_be_read_of_a_changelog_is_passed_over(app: Any, table: RocksTable) -> None:
    recovery = await begun(app, table, Consumer(first=0, end=4))
    gone = SimpleNamespace(offset=2, key=None, value=Misfit.of("unreadable", "why", first=1))
    recovery.apply(CHANGELOG, [*records(0), gone, *records(3)])
    assert not recovery.in_recovery
    assert [table.get(0, b"k%d" % number) for number in range(4)] == [b"v", None, None, b"v"]


async def test_good_files_are_read_on_from_where_they_are(app: Any, table: RocksTable) -> None:
    table.recover(0, records(0, 1, 2), 2)
    consumer = Consumer(first=0, end=5)
    recovery = await begun(app, table, consumer)
    assert consumer.sought == {CHANGELOG: 3}
    recovery.apply(CHANGELOG, records(2, value=b"old"))
    assert table.get(0, b"k2") == b"v", "what the files hold is not applied again"
    recovery.apply(CHANGELOG, records(3, 4))
    assert table.offset(0) == 4


@pytest.mark.parametrize(("first", "end"), [(0, 2), (8, 12)], ids=["ahead", "behind"])
async def test_files_of_another_changelog_are_thrown_away(
    app: Any, table: RocksTable, first: int, end: int, caplog: pytest.LogCaptureFixture
) -> None:
    table.recover(0, records(0, 1, 2, 3, 4), 4)
    consumer = Consumer(first, end)
    await begun(app, table, consumer)
    assert consumer.sought == {CHANGELOG: first}
    assert table.get(0, b"k4") is None
    assert "is thrown away and made again from its changelog" in caplog.text


async def test_an_end_that_is_no_record_is_believed_when_the_client_is_beyond_it(app: Any, table: RocksTable) -> None:
    consumer = Consumer(first=0, end=3)
    recovery = await begun(app, table, consumer)
    app.consumer.position = consumer.position
    recovery.apply(CHANGELOG, records(0, 1))
    consumer.at = 2
    await recovery.nothing_came()
    assert recovery.in_recovery
    consumer.at = 3
    await recovery.nothing_came()
    assert not recovery.in_recovery
    assert table.offset(0) == 2


async def test_what_is_not_being_recovered_is_not_applied(app: Any, table: RocksTable) -> None:
    app.tables.recovery.apply(CHANGELOG, records(0))
    assert table.offset(0) is None


async def test_a_write_that_fails_ends_the_worker(app: Any, table: RocksTable, monkeypatch: pytest.MonkeyPatch) -> None:
    crashes: list[BaseException] = []

    async def crash(exc: BaseException) -> None:
        crashes.append(exc)

    class Broken:
        def write(self, _batch: Any) -> None:
            raise Exception("Corruption: block checksum mismatch")  # noqa: TRY002  # what RocksDB raises

    await begun(app, table, Consumer(first=0, end=3))
    monkeypatch.setattr(app.consumer, "crash", crash)
    table._faust.data._dbs.pop(0).close()
    table._faust.data._dbs[0] = Broken()
    with pytest.raises(Exception, match="the next start makes it again"):
        await app.consumer._recover(CHANGELOG, records(0))
    assert len(crashes) == 1
    del table._faust.data._dbs[0]
    assert table.offset(0) is None, "it was made again"
