"""Local files are never trusted: whatever is done to them, the worker starts and its table is what was sent."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.tables.conftest import COMPACTED, OFFSET_KEY, Counting, eventually

AGAIN = "made again from its changelog"


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: len(content) // 2] = bytes(255 - byte for byte in content[: len(content) // 2])
    path.write_bytes(content)


def nothing(_files: Path) -> None:
    """kill -9 alone."""


def deleted(files: Path) -> None:
    shutil.rmtree(files)


def tables_cut(files: Path) -> None:
    for path in files.glob("*.sst"):
        cut(path)


def tables_flipped(files: Path) -> None:
    for path in files.glob("*.sst"):
        flip(path)


def tables_gone(files: Path) -> None:
    for path in files.glob("*.sst"):
        path.unlink()


def manifest_cut(files: Path) -> None:
    for path in files.glob("MANIFEST-*"):
        cut(path)


def current_rubbish(files: Path) -> None:
    (files / "CURRENT").write_bytes(b"rubbish")


SILENT = (nothing, deleted)


THOROUGH = (nothing, deleted, tables_flipped, tables_gone, manifest_cut, current_rubbish)


@pytest.mark.parametrize(
    "damage", [tables_cut, *(pytest.param(damage, marks=pytest.mark.thorough) for damage in THOROUGH)]
)
def test_the_table_is_right_whatever_happened_to_its_files(counting: Counting, damage: Callable[[Path], None]) -> None:
    counting.make_topics()
    counting.produce(each=3)
    counting.run()
    counting.produce(each=1)
    counting.start()  # what the first one wrote is in tables now, what this one writes in the log
    counting.finish()
    counting.kill()
    for files in counting.files():
        damage(files)
    counting.produce(each=2)
    counting.run()
    counting.check()
    assert (AGAIN in counting.said) == (damage not in SILENT)
    assert "Traceback" not in counting.said


def test_files_ahead_of_their_changelog_are_thrown_away(counting: Counting) -> None:
    counting.make_topics()
    counting.produce(each=2)
    counting.run()
    for path in counting.files():
        with counting.opened(path) as files:
            files[b"u0"] = b"[999,999,1]"
            files[OFFSET_KEY] = b"1000000"
    counting.produce(each=1)
    counting.run()
    counting.check()
    assert "ahead of their changelog" in counting.said


@pytest.mark.thorough
def test_files_that_end_before_the_changelog_begins_are_thrown_away(counting: Counting) -> None:
    counting.make_topics()
    counting.produce(each=2)
    counting.run()
    counting.slot = "b"
    counting.produce(each=1)
    counting.run()
    counting.forget_changelog()
    counting.produce(each=1)
    counting.run()
    counting.slot = "a"
    counting.produce(each=1)
    counting.run()
    counting.check()
    assert "their changelog begins at" in counting.said


@pytest.mark.thorough
@pytest.mark.parametrize("config", [{}, COMPACTED], ids=["whole", "compacted"])
def test_files_of_partitions_that_were_with_somebody_else_are_brought_up_to_date(
    counting: Counting, config: dict[str, str]
) -> None:
    counting.make_topics(config)
    counting.produce(each=3)
    counting.run()
    counting.slot = "b"
    for _ in range(3):
        counting.produce(each=5)
        counting.run()
    if config:
        eventually(lambda: any(len(c) < c[-1][0] + 1 for c in counting.changelog().values() if c))
    counting.slot = "a"
    counting.produce(each=1)
    counting.run()
    counting.check()
    assert AGAIN not in counting.said
