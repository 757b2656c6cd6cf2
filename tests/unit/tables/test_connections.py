"""Sessions lie in groups: small values, few writes for a new one, and whatever is in the files does no harm."""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Connected
from streams.connections import Place
from tables import connections as module
from tables.connections import GROUP, LARGEST, Changed, ConnectionTable

PRODUCER = cast("Any", None)
PHONE = Place("g1", "phone")


class Files:
    """The files of a table. Counts what is read and written, and fails if it is told to."""

    def __init__(self) -> None:
        self.found: dict[bytes, bytes] = {}
        self.reads = self.writes = 0
        self.largest = 0
        self.fails = False
        self.on_recovery: Any = None

    def get(self, _partition: int, key: bytes) -> bytes | None:
        self.reads += 1
        return self.found.get(key)

    def scan(self, _partition: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return [(key, value) for key, value in sorted(self.found.items()) if key > after][:limit]

    async def write(self, _producer: Any, changes: Mapping[int, Sequence[tuple[bytes, bytes | None]]]) -> None:
        if self.fails:
            raise ConnectionError
        for items in changes.values():
            for key, value in items:
                self.writes += 1
                self.largest = max(self.largest, len(value or b""))
                if value is None:
                    self.found.pop(key, None)
                else:
                    self.found[key] = value


class Table(ConnectionTable):
    def __init__(self, files: Files) -> None:
        self._begin(cast("Any", files))


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def table(files: Files) -> Table:
    return Table(files)


async def opened(table: Table, user: str, sessions: Changed) -> None:
    await table.write(PRODUCER, {0: {user: sessions}})


async def test_a_user_with_4000_sessions_has_small_values_and_few_writes_each(files: Files, table: Table) -> None:
    place = Place("g" * 256, "d" * 64)
    for number in range(4_000):
        before = files.writes
        await opened(table, "eve", {f"{'s' * 290}-{number}": place})
        assert files.writes - before <= 2
    assert files.largest <= LARGEST
    assert len(table.get(0, "eve")) == len(Table(files).get(0, "eve")) == 4_000


def test_a_group_of_the_longest_ids_can_be_read() -> None:
    wide = "\U0001f600"
    said = Connected(user="u", session=wide * 300, gateway=wide * 256, device="d" * 64)
    text = msgspec.json.encode(said)
    assert msgspec.json.decode(text, type=Connected) == said
    sessions = {f"{number:02}{wide * 298}": Place(said.gateway, said.device) for number in range(GROUP)}
    value = module._encode(module.Group(10**6, sessions))
    assert module._decoded(value) is not None


@given(
    st.lists(
        st.dictionaries(st.integers(0, 60), st.sampled_from([None, "g1", "g2"]), max_size=30), min_size=1, max_size=20
    ),
    st.booleans(),
)
async def test_it_is_what_was_written_in_any_order(batches: list[dict[int, str | None]], kept: bool) -> None:
    files = Files()
    table, model = Table(files), dict[str, Place]()
    with patch.object(module, "GROUP", 4):
        for batch in batches:
            changed = {f"s{n}": None if gateway is None else Place(gateway, "d") for n, gateway in batch.items()}
            await opened(table, "ann", changed)
            model |= {session: place for session, place in changed.items() if place}
            model = {session: place for session, place in model.items() if changed.get(session, place)}
            assert table.get(0, "ann") == model
            table = table if kept else Table(files)
            assert Table(files).get(0, "ann") == model
            groups = [module._decoded(value) for value in files.found.values()]
            assert max((len(group.sessions) for group in groups if group), default=0) <= 4
            found = table.look(0, b"", 1_000)
            assert not found.junk
            assert {s: p for _, sessions in found.sessions for s, p in sessions.items()} == model
        await opened(table, "ann", dict.fromkeys(model))
    assert files.found == {}


async def test_what_is_asked_for_again_is_not_read_again(files: Files, table: Table) -> None:
    await opened(table, "ann", {"s": PHONE})
    before = files.reads
    assert (table.get(0, "ann"), table.get(0, "ann")) == ({"s": PHONE}, {"s": PHONE})
    assert (table.get(0, "bob"), table.get(0, "bob"), table.get(1, "bob")) == ({}, {}, {})
    assert files.reads - before == 2


async def test_after_a_recovery_the_files_are_read(files: Files, table: Table) -> None:
    await opened(table, "ann", {"s": PHONE})
    files.found.clear()
    files.on_recovery()
    assert table.get(0, "ann") == {}


async def test_after_a_write_that_failed_the_files_are_read(files: Files, table: Table) -> None:
    await opened(table, "ann", {"s": PHONE})
    files.fails = True
    with pytest.raises(ConnectionError):
        await opened(table, "ann", {"s": None, "t": PHONE})
    assert table.get(0, "ann") == {"s": PHONE}


@pytest.mark.parametrize(
    "value",
    [
        b"rubbish",
        b"",
        msgspec.msgpack.encode({f"s{number}": ("g", "d" * 128) for number in range(4_000)}),
        msgspec.msgpack.encode([1, {f"s{number}": ("g", "d" * 128) for number in range(4_000)}]),
        msgspec.msgpack.encode([1, {"s": ("\ud800".encode("utf-8", "surrogatepass"), b"d")}]),
    ],
    ids=["rubbish", "empty", "a value of before", "far too large", "no text"],
)
async def test_a_value_that_cannot_be_read_counts_as_none_and_is_replaced(
    files: Files, table: Table, value: bytes
) -> None:
    files.found[module._key(b"ann", 0)] = files.found[b"user/ann"] = value
    assert table.get(0, "ann") == {}
    assert sorted(table.look(0, b"", 9).junk) == sorted(files.found)
    await opened(table, "ann", {"s": PHONE})
    assert Table(files).get(0, "ann") == {"s": PHONE}
    await table.write(PRODUCER, {}, {0: table.look(0, b"", 9).junk})
    assert list(files.found) == [module._key(b"ann", 0)]


async def test_a_later_group_that_cannot_be_read_takes_no_other_with_it(files: Files, table: Table) -> None:
    await opened(table, "ann", {f"s{number}": PHONE for number in range(2 * GROUP)})
    files.found[module._key(b"ann", 1)] = b"rubbish"
    table = Table(files)
    assert len(table.get(0, "ann")) == GROUP
    await opened(table, "ann", {"new": PHONE})
    assert len(Table(files).get(0, "ann")) == GROUP + 1


async def test_a_look_takes_little_at_a_time_and_goes_on_where_it_was(files: Files, table: Table) -> None:
    for number in range(25):
        await opened(table, f"u{number}", {f"s{number}": PHONE})
    seen, after = list[str](), b""
    while (found := table.look(0, after, 10)).last is not None:
        assert len(found.sessions) == 10
        seen += [user for user, _ in found.sessions]
        after = found.last
    seen += [user for user, _ in found.sessions]
    assert sorted(seen) == sorted(f"u{number}" for number in range(25))
