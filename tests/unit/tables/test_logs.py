"""The table of logs: what it says is what it was told last, in memory or in files, and only under the same epoch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.inbox import LogState
from tables.failures import DiskFull, TableBroken
from tables.logs import LogTable
from tables.scratch import Scratch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tables" / "logs"


@pytest.fixture
def logs(folder: Path) -> Iterator[LogTable]:
    table = LogTable(Scratch(folder))
    yield table
    table.clear()


@pytest.fixture
def little_memory() -> Iterator[None]:
    with patch("tables.kept.KEPT", 4), patch("tables.logs.LEAVING", 3):
        yield


def state(seq: int, epoch: int = 7) -> LogState:
    return LogState(epoch=epoch, seq=seq, src=9, n=2, prints=b"ab" * seq, tat=seq)


def write_many(logs: LogTable, count: int = 40) -> None:
    for number in range(count):
        logs.write({f"inbox/normal/u{number}": state(number)})


def test_a_state_of_another_epoch_is_not_believed(logs: LogTable) -> None:
    logs.write({"inbox/normal/ann": state(3)})
    assert logs.get("inbox/normal/ann", 7) == state(3)
    assert logs.get("inbox/normal/ann", 8) is None
    assert logs.get("inbox/normal/ann", 6) is None
    assert logs.get("inbox/normal/bob", 7) is None


def test_few_states_need_no_files(logs: LogTable, folder: Path) -> None:
    write_many(logs)
    assert not folder.exists()


@pytest.mark.usefixtures("little_memory")
def test_states_that_do_not_fit_into_memory_are_in_files(logs: LogTable, folder: Path) -> None:
    write_many(logs)
    assert folder.exists()
    assert len(logs._kept) + len(logs._leaving) < 8
    assert [logs.get(f"inbox/normal/u{number}", 7) for number in range(40)] == [state(number) for number in range(40)]


@pytest.mark.usefixtures("little_memory")
def test_what_was_forgotten_is_not_known_and_leaves_no_files(logs: LogTable, folder: Path) -> None:
    write_many(logs)
    logs.clear()
    assert [logs.get(f"inbox/normal/u{number}", 7) for number in range(40)] == [None] * 40
    assert not folder.exists()
    write_many(logs)
    assert logs.get("inbox/normal/u3", 7) == state(3)


@pytest.mark.usefixtures("little_memory")
def test_what_an_earlier_process_left_is_thrown_away(folder: Path) -> None:
    killed = LogTable(Scratch(folder))
    write_many(killed)
    killed._files._files.close()
    (folder / "CURRENT").write_bytes(b"rubbish")
    logs = LogTable(Scratch(folder))
    write_many(logs, 20)
    assert logs.get("inbox/normal/u3", 7) == state(3)
    assert logs.get("inbox/normal/u33", 7) is None
    logs.clear()
    assert not folder.exists()


class Failing:
    def __init__(self, says: str) -> None:
        self._says = says

    def get(self, *_: Any) -> None:
        raise Exception(self._says)  # noqa: TRY002  # what RocksDB raises

    write = get


@pytest.mark.parametrize(
    ("says", "error", "text"),
    [
        ("IO error: No space left on device: While appending", DiskFull, "no space left on device for .*logs: free"),
        ("Corruption: block checksum mismatch", TableBroken, "logs is broken, the next start makes it again"),
        ("Invalid argument: something else", Exception, "something else"),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_files_that_fail_end_the_worker_with_a_reason(
    logs: LogTable, says: str, error: type[Exception], text: str
) -> None:
    write_many(logs)
    logs._files._files.close()
    logs._files._files = Failing(says)
    with pytest.raises(error, match=text):
        logs.get("inbox/normal/u0", 7)
    with pytest.raises(error, match=text):
        write_many(logs)
    logs.clear()  # as at a rebalance that comes before the worker's end
    write_many(logs)
    assert logs.get("inbox/normal/u0", 7) == state(0)


steps = st.tuples(st.sampled_from(["get", "write", "write", "clear"]), st.integers(0, 9))


@given(st.lists(steps, max_size=60), st.integers(1, 4), st.integers(1, 4))
@example([("write", number) for number in range(10)], 1, 2)  # then all are read, and with each another one leaves
def test_what_it_says_is_what_it_was_told_last(done: list[tuple[str, int]], most: int, leaving: int) -> None:
    class Files(dict[bytes, bytes]):
        def write(self, items: Any) -> None:
            self.update(items)

    files: Any = Files()
    logs, told = LogTable(files), dict[str, LogState]()
    with patch("tables.kept.KEPT", most), patch("tables.logs.LEAVING", leaving):
        for seq, (what, number) in enumerate([*done, *(("get", number) for number in range(10))]):
            log = f"u{number}"
            match what:
                case "get":
                    assert logs.get(log, 7) == told.get(log)
                case "clear":
                    logs.clear()
                    told.clear()
                case _:
                    told[log] = state(seq)
                    logs.write({log: told[log]})
            assert len(logs._kept) <= most
            assert len(logs._leaving) < leaving
