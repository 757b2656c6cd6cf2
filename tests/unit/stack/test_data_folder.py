import stat
import tempfile
from pathlib import Path

import pytest

from schemas.errors import ServerFailed
from stack.data_folder import DataFolder


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        key = folder.secret()
        assert len(key) >= 32
        assert stat.S_IMODE(folder.secret_file.stat().st_mode) == 0o600
    with DataFolder(tmp_path) as folder:
        assert folder.secret() == key


def test_a_key_that_was_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".secret").write_text("half")
    with DataFolder(tmp_path) as folder:
        assert len(folder.secret()) >= 32


def test_two_deployments_never_share_a_folder(tmp_path: Path) -> None:
    with DataFolder(tmp_path), pytest.raises(ServerFailed, match="in use by another"):
        DataFolder(tmp_path)
    DataFolder(tmp_path).close()


def test_a_temporary_folder_is_removed_unless_its_logs_say_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with DataFolder(None):
        assert list(tmp_path.iterdir())
    with pytest.raises(ServerFailed), DataFolder(None):
        raise ServerFailed("nothing was started")
    assert not list(tmp_path.iterdir())
    folder = DataFolder(None)
    (folder.logs / "some.log").write_text("why")
    folder.close(keep=True)
    assert (folder.logs / "some.log").exists()
    DataFolder(folder.path).close()  # and the lock is free again


def test_what_an_earlier_run_derived_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "tocsin.db").write_text("old")
    (tmp_path / "tocsin.db-wal").write_text("old")
    (tmp_path / "worker-inbox").mkdir()
    with DataFolder(tmp_path) as folder:
        key = folder.secret()
        assert folder.forget_run() == tmp_path / "previous"
        assert sorted(path.name for path in (tmp_path / "previous").iterdir()) == [
            "tocsin.db",
            "tocsin.db-wal",
            "worker-inbox",
        ]
        assert not (tmp_path / "tocsin.db").exists()
        assert folder.secret() == key


def test_there_is_nothing_to_set_aside_in_a_new_folder(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        assert folder.forget_run() is None


def test_only_one_earlier_run_is_kept(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        for text in ("first", "second"):
            (tmp_path / "tocsin.db").write_text(text)
            folder.forget_run()
    assert (tmp_path / "previous" / "tocsin.db").read_text() == "second"


def test_logs_of_the_run_before_are_kept_beside_the_new_ones(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "kafka.log").write_text("old")
    with DataFolder(tmp_path) as folder:
        assert not (folder.logs / "kafka.log").exists()
        assert (folder.logs / "kafka.log.1").read_text() == "old"
