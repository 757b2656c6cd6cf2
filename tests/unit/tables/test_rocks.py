"""Tables: what was written is read, the files know how far they agree with the changelog, broken files are remade."""

from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import rocksdict

from schemas.errors import DiskError
from streams.app import make_app
from streams.connections import Place
from streams.producer import BatchProducer, Emit, Written
from streams.settings import Settings
from tables.connections import ConnectionTable
from tables.failures import DiskFull, TableBroken, failure
from tables.rocks import RocksTable


class Changelog:
    """Takes what a table writes; fails if it is told to."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Emit]] = {}
        self.fails = False

    async def write_runs(self, runs: dict[tuple[str, int], list[Emit]]) -> list[Written]:
        if self.fails:
            raise ConnectionError
        written = []
        for (topic, partition), records in runs.items():
            place = self.records.setdefault((topic, partition), [])
            for part in (records[:1], records[1:]):  # in more than one request
                if part:
                    written.append(Written(topic, partition, len(place), len(part)))
                    place += part
        return written


@pytest.fixture
def changelog() -> Changelog:
    return Changelog()


@pytest.fixture
def producer(changelog: Changelog) -> BatchProducer:
    return cast("BatchProducer", changelog)


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return make_app(Settings(data=str(tmp_path), prefix="p."), "inbox", partitions=2)


@pytest.fixture
async def table(app: Any) -> RocksTable:
    return RocksTable(app, "sums", partitions=2)


def offset_of(table: RocksTable, partition: int) -> bytes | None:
    found: bytes | None = table._faust.data._db_for_partition(partition).get(table._faust.data.offset_key)
    return found


async def test_what_was_written_is_read_by_partition(table: RocksTable, producer: BatchProducer) -> None:
    await table.write(producer, {0: [(b"a", b"1"), (b"b", b"2")], 1: [(b"a", b"3")]})
    await table.write(producer, {0: [(b"b", None)]})
    assert (table.get(0, b"a"), table.get(0, b"b"), table.get(1, b"a")) == (b"1", None, b"3")


async def test_the_changelog_has_what_the_files_have_and_the_files_say_up_to_where(
    table: RocksTable, producer: BatchProducer, changelog: Changelog
) -> None:
    await table.write(producer, {0: [(b"a", b"1"), (b"b", None)], 1: []})
    records = changelog.records["p.tocsin-inbox-sums-changelog", 0]
    assert [(record.key, record.value) for record in records] == [(b"a", b"1"), (b"b", None)]
    assert offset_of(table, 0) == b"1"
    assert offset_of(table, 1) is None


async def test_what_the_changelog_did_not_take_is_not_in_the_files(
    table: RocksTable, producer: BatchProducer, changelog: Changelog
) -> None:
    changelog.fails = True
    with pytest.raises(ConnectionError):
        await table.write(producer, {0: [(b"a", b"1")]})
    assert table.get(0, b"a") is None
    assert offset_of(table, 0) is None


async def test_what_others_wrote_in_between_is_read_again(
    table: RocksTable, producer: BatchProducer, changelog: Changelog
) -> None:
    """A worker that was frozen writes late: its files must not claim to know what its successor wrote meanwhile."""
    await table.write(producer, {0: [(b"a", b"1"), (b"b", b"1")]})
    changelog.records["p.tocsin-inbox-sums-changelog", 0].append(Emit("", b"b", b"successor's"))
    await table.write(producer, {0: [(b"a", b"late")]})
    assert offset_of(table, 0) == b"1", "so that 2 and 3 are read at the next assignment"
    assert table.get(0, b"a") == b"late"


def reopened(table: RocksTable, partition: int = 0) -> Path:
    """Close the files of a partition, as a worker's end does, and return where they are."""
    table._faust.data._dbs.pop(partition).close()
    return Path(table._faust.data.partition_path(partition))


async def test_files_stay(table: RocksTable, producer: BatchProducer) -> None:
    await table.write(producer, {0: [(b"a", b"1")]})
    reopened(table)
    assert table.get(0, b"a") == b"1"


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*"])
async def test_files_that_cannot_be_opened_are_made_anew_without_an_offset(
    table: RocksTable, producer: BatchProducer, name: str
) -> None:
    await table.write(producer, {0: [(b"a", b"1")], 1: [(b"a", b"1")]})
    for path in reopened(table).glob(name):
        path.write_bytes(b"rubbish")
    assert table.get(0, b"a") is None
    assert offset_of(table, 0) is None, "so all of the changelog is read"
    assert table.get(1, b"a") == b"1"


async def test_a_full_disk_is_named_and_the_files_are_kept(table: RocksTable, producer: BatchProducer) -> None:
    class Full:
        def get(self, _key: bytes) -> None:
            return None

        def write(self, _batch: Any) -> None:
            raise Exception("IO error: No space left on device: While appending to file: 4.log")  # noqa: TRY002  # what RocksDB raises

    await table.write(producer, {0: [(b"a", b"1")]})
    reopened(table)
    table._faust.data._dbs[0] = Full()
    with pytest.raises(DiskFull, match=r"no space left on device for .*sums-0\.db: free some"):
        await table.write(producer, {0: [(b"a", b"2")]})
    del table._faust.data._dbs[0]
    assert table.get(0, b"a") == b"1"


async def test_files_found_broken_in_use_end_the_worker_and_are_made_anew_at_the_next_start(
    table: RocksTable, producer: BatchProducer
) -> None:
    class Broken:
        def get(self, _key: bytes) -> bytes:
            raise Exception("Corruption: block checksum mismatch")  # noqa: TRY002  # what RocksDB raises

    await table.write(producer, {0: [(b"a", b"1")]})
    reopened(table)
    table._faust.data._dbs[0] = Broken()
    with pytest.raises(TableBroken, match="the next start makes it again"):
        table.get(0, b"a")
    del table._faust.data._dbs[0]
    assert table.get(0, b"a") is None
    await table.write(producer, {0: [(b"a", b"2")]})
    reopened(table)
    assert table.get(0, b"a") == b"2", "once"


def blocked(path: Path) -> Path:
    """Put a file where RocksDB wants its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("somebody's")
    return path


async def test_other_failures_are_not_taken_for_broken_files(table: RocksTable) -> None:
    path = blocked(Path(table._faust.data.partition_path(0)))
    with pytest.raises(Exception, match="File exists"):
        table.get(0, b"a")
    assert path.is_file()


async def test_a_user_without_sessions_leaves_nothing_behind(
    app: Any, producer: BatchProducer, changelog: Changelog
) -> None:
    connections = ConnectionTable(app, partitions=2)
    sessions = {"s": Place("g", "phone")}
    await connections.write(producer, {0: {"ann": sessions}})
    assert connections.get(0, "ann") == sessions
    await connections.write(producer, {0: {"ann": {"s": None}}})
    assert connections.get(0, "ann") == {}
    (records,) = changelog.records.values()
    assert records[-1].value is None


async def test_a_user_called_like_a_key_of_the_table_itself_is_a_user(
    app: Any, producer: BatchProducer, changelog: Changelog
) -> None:
    connections = ConnectionTable(app, partitions=2)
    sessions = {"s": Place("g", "phone")}
    await connections.write(producer, {0: {"ann": sessions, "__faust\0offset__": sessions}})
    assert connections._rocks.offset(0) == 1
    assert connections.get(0, "__faust\0offset__") == sessions


def test_what_is_written_takes_little_memory_however_much_it_is(app: Any) -> None:
    options = RocksTable(app, "t", partitions=2)._faust.data.rocksdb_options
    files = options.open(Path(app.conf.datadir) / "x")
    begin = resident()
    for number in range(40):
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key in range(2_000):
            batch.put(b"key%d" % key, number.to_bytes(1, "big") * 1_000)
        files.write(batch)
    assert resident() - begin < 40, "MB; 80 were written"


def resident() -> float:
    """The memory of this process, MB."""
    return float(psutil.Process().memory_info().rss) / 1e6


def test_a_hundred_partitions_with_little_in_them_do_not_write_files_all_the_time(app: Any, tmp_path: Path) -> None:
    table = RocksTable(app, "many", partitions=100)
    for partition in range(100):
        table.recover(partition, [cast("Any", Emit("changelog", b"key", b"value"))], 0)
        table.recover(partition, [cast("Any", Emit("changelog", b"other", bytes(4096)))], 1)
    assert not list(tmp_path.rglob("*.sst"))


@pytest.mark.parametrize(
    "said",
    [
        "IO error: Input/output error: While pread",
        "IO error: Read-only file system: While open a file",
        "IO error: Disk quota exceeded: While appending to file",
        "IO error: No space left on device: While appending to file",
    ],
)
def test_a_disk_that_fails_is_said_whatever_the_reason(said: str) -> None:
    assert isinstance(failure(Path("/data/sums"), Exception(said)), DiskError)
    assert failure(Path("/data/sums"), ValueError("ours")) is None
    locked = Exception("IO error: While lock file: /data/sums/LOCK: Resource temporarily unavailable")
    assert failure(Path("/data/sums"), locked) is None, "it is waited for"
