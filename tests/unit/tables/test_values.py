"""Values of a table as objects: what is kept is what the files hold, whatever happens to them."""

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tables import kept
from tables.values import Values


class Files:
    """The files of a table; counts how often they are read, and fails if it is told to."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, bytes], bytes] = {}
        self.reads = 0
        self.fails = False
        self.on_recovery: Callable[[], object] = lambda: None

    def get(self, partition: int, key: bytes) -> bytes | None:
        self.reads += 1
        return self.found.get((partition, key))

    async def write(self, _producer: Any, changes: Mapping[int, Sequence[tuple[bytes, bytes | None]]]) -> None:
        if self.fails:
            raise ConnectionError
        for partition, items in changes.items():
            for key, value in items:
                if value is None:
                    self.found.pop((partition, key), None)
                else:
                    self.found[partition, key] = value

    def recover(self, partition: int, key: bytes, value: bytes) -> None:
        self.on_recovery()
        self.found[partition, key] = value


PRODUCER = cast("Any", None)


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def table(files: Files) -> Values[str]:
    return Values(cast("Any", files), str.encode, bytes.decode)


async def test_a_value_that_is_asked_for_again_is_not_read_again(files: Files, table: Values[str]) -> None:
    files.found[0, b"k"] = b"v"
    assert [table.get(0, b"k"), table.get(0, b"k"), table.get(1, b"k"), table.get(1, b"k")] == ["v", "v", None, None]
    assert files.reads == 2


async def test_what_was_written_is_known_without_a_read(files: Files, table: Values[str]) -> None:
    await table.write(PRODUCER, {0: [(b"k", "v"), (b"gone", None)]})
    assert (table.get(0, b"k"), table.get(0, b"gone")) == ("v", None)
    assert files.reads == 0


async def test_after_a_recovery_the_files_are_read(files: Files, table: Values[str]) -> None:
    await table.write(PRODUCER, {0: [(b"k", "mine")]})
    files.recover(0, b"k", b"another worker's")
    assert table.get(0, b"k") == "another worker's"


async def test_after_a_write_that_failed_the_files_are_read(files: Files, table: Values[str]) -> None:
    await table.write(PRODUCER, {0: [(b"k", "before")]})
    files.fails = True
    with pytest.raises(ConnectionError):
        await table.write(PRODUCER, {0: [(b"k", "after")]})
    assert table.get(0, b"k") == "before"
    assert files.reads == 1


@pytest.mark.parametrize("most", [1, 2, 7])
async def test_what_is_kept_is_bounded(table: Values[str], most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT", most)
    for number in range(60):
        await table.write(PRODUCER, {number % 2: [(b"%d" % number, "v")]})
        assert len(table._kept) <= most


async def test_what_is_used_again_and_again_is_kept(
    files: Files, table: Values[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "KEPT", 8)
    for number in range(100):
        table.get(0, b"%d" % number)
        table.get(0, b"often")
    assert files.reads == 101


def test_what_is_kept_is_nothing_to_a_look_for_garbage(files: Files, table: Values[str]) -> None:
    before = set(map(id, gc.get_objects()))
    kept = [table.get(0, b"%d" % number) for number in range(1_000)]
    assert len(kept) == len(table._kept)
    assert len([one for one in gc.get_objects() if id(one) not in before]) < 100


steps = st.tuples(
    st.sampled_from(["get", "write", "delete", "recover", "fail"]), st.integers(0, 1), st.sampled_from([b"a", b"b"])
)


@given(st.lists(steps, max_size=30), st.integers(1, 4))
@example([("write", 0, b"a"), ("write", 0, b"b"), ("write", 0, b"a")], 2)  # the first value is among the old ones
def test_what_is_said_is_what_the_files_hold(done: list[tuple[str, int, bytes]], most: int) -> None:
    files = Files()
    table: Values[str] = Values(cast("Any", files), str.encode, bytes.decode)
    with patch.object(kept, "KEPT", most):
        for number, (what, partition, key) in enumerate(done):
            do(what, partition, key, number, files, table)
        for place in [(0, b"a"), (0, b"b"), (1, b"a"), (1, b"b")]:
            do("get", *place, len(done), files, table)


def do(what: str, partition: int, key: bytes, number: int, files: Files, table: Values[str]) -> None:
    match what:
        case "get":
            found = files.found.get((partition, key))
            assert table.get(partition, key) == (None if found is None else found.decode())
        case "recover":
            files.recover(partition, key, b"r%d" % number)
        case _:
            files.fails = what == "fail"
            write = table.write(PRODUCER, {partition: [(key, None if what == "delete" else f"w{number}")]})
            with pytest.raises(ConnectionError if files.fails else StopIteration):
                write.send(None)
