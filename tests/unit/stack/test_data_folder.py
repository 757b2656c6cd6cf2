import os
import stat
import tempfile
from pathlib import Path

import pytest

from schemas.errors import ServerFailed
from stack.data_folder import EMBEDDED, DataFolder


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        key = folder.secret()
        assert len(key) >= 32
        assert folder.secret_file.read_text() == key  # no end of a line, so that any language may read it as it is
        assert stat.S_IMODE(folder.secret_file.stat().st_mode) == 0o600
    with DataFolder(tmp_path) as folder:
        assert folder.secret() == key


def test_a_key_that_was_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".secret").write_text("half")
    with DataFolder(tmp_path) as folder:
        assert len(folder.secret()) >= 32


def test_two_deployments_never_share_a_folder(tmp_path: Path) -> None:
    with (
        DataFolder(tmp_path),
        pytest.raises(ServerFailed, match=rf"in use by another `tocsin up` \(pid {os.getpid()}\)"),
    ):
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
        assert folder.belong_to(EMBEDDED, with_store=True) == tmp_path / "previous"
        assert sorted(path.name for path in (tmp_path / "previous").iterdir()) == [
            "tocsin.db",
            "tocsin.db-wal",
            "worker-inbox",
        ]
        assert not (tmp_path / "tocsin.db").exists()
        assert folder.secret() == key


def test_there_is_nothing_to_set_aside_in_a_new_folder(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        assert folder.belong_to(EMBEDDED, with_store=True) is None


def test_only_one_earlier_run_is_kept(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        for text in ("first", "second"):
            (tmp_path / "tocsin.db").write_text(text)
            folder.belong_to(EMBEDDED, with_store=True)
    assert (tmp_path / "previous" / "tocsin.db").read_text() == "second"


def test_logs_of_the_run_before_are_kept_beside_the_new_ones(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "kafka.log").write_text("old")
    with DataFolder(tmp_path) as folder:
        assert not (folder.logs / "kafka.log").exists()
        assert (folder.logs / "kafka.log.1").read_text() == "old"


def test_the_key_may_lie_elsewhere_and_outlives_a_temporary_folder(tmp_path: Path) -> None:
    with DataFolder(None, keys=tmp_path / "keys") as folder:
        key = folder.secret()
        assert folder.path != tmp_path / "keys"
    assert (tmp_path / "keys" / "secret").read_text() == key


def test_a_key_that_is_too_short_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    with DataFolder(tmp_path) as folder, pytest.raises(ServerFailed, match=r"secret is shorter than 32 .* a new key"):
        folder.secret()


def test_the_store_of_a_lasting_kafka_stays_with_it(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        assert folder.belong_to("cluster a", with_store=True) is None
        (tmp_path / "tocsin.db").write_text("a's")
        assert folder.belong_to("cluster a", with_store=True) is None
        for other in ("cluster b", "real", EMBEDDED):
            with pytest.raises(
                ServerFailed, match=rf"is of another Kafka \(cluster a\) than this one \({other}\); .*--data"
            ):
                folder.belong_to(other, with_store=True)
    assert (tmp_path / "tocsin.db").read_text() == "a's"


def test_what_an_embedded_kafka_left_does_not_meet_a_lasting_one(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        folder.belong_to(EMBEDDED, with_store=True)
        (tmp_path / "tocsin.db").write_text("void")
        assert folder.belong_to("real", with_store=True) == tmp_path / "previous"
    assert not (tmp_path / "tocsin.db").exists()


def test_a_store_elsewhere_stays_and_only_the_tables_of_an_embedded_kafka_go(tmp_path: Path) -> None:
    (tmp_path / "tocsin.db").write_text("not used")
    (tmp_path / "worker-inbox").mkdir()
    with DataFolder(tmp_path) as folder:
        assert folder.belong_to("cluster a", with_store=False) is None
        assert (tmp_path / "worker-inbox").exists()
        assert folder.belong_to(EMBEDDED, with_store=False) == tmp_path / "previous"
    assert (tmp_path / "tocsin.db").exists()
    assert not (tmp_path / "worker-inbox").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerFailed, match=r"file/data/logs cannot be written: Not a directory; --data names"):
        DataFolder(tmp_path / "file" / "data")
