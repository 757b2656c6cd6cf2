"""A worker's data folder has one user at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import TocsinError
from tables.folder import FolderInUse, held

HOLDS = """
import sys
from pathlib import Path
from tables.folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "t")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        try:
            assert first.stdout
            assert first.stdout.readline() == "held\n"
            with (
                pytest.raises(FolderInUse, match=f"in use by another worker, process {first.pid};"),
                held(tmp_path / "t"),
            ):
                raise AssertionError
            first.kill()  # nothing is left to be tidied up
            first.wait()
            with held(tmp_path / "t"):
                assert (tmp_path / "t").is_dir()
        finally:
            first.kill()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(TocsinError, match=r"cannot be used \(TOCSIN_DATA\): Not a directory"),
        held(tmp_path / "file" / "t"),
    ):
        raise AssertionError
