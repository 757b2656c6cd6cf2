import os
import xml.etree.ElementTree as Xml
from pathlib import Path

import pytest

from schemas.errors import ServerFailed
from stack import jars
from stack.jars import Jars, cache, fetch
from stack.servers import Kafka
from stack.servers.jvm import ClassArchive, find_java

SOME = Jars(name="some", version="1", artifacts=("org.some:thing:1", "org.other:thing:2"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it, and no JAVA_HOME."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def fake_maven(folder: Path, script: str) -> None:
    program = folder / "mvn"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_maven_project_pins_every_artifact() -> None:
    space = "{http://maven.apache.org/POM/4.0.0}"
    found = [[part.text for part in item] for item in Xml.fromstring(SOME.pom()).iter(f"{space}dependency")]
    assert found == [["org.some", "thing", "1"], ["org.other", "thing", "2"]]


def test_another_list_of_artifacts_has_another_folder() -> None:
    assert SOME.home() != Jars(name="some", version="1", artifacts=("org.some:thing:1",)).home()


def test_the_cache_is_in_the_home_folder_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOCSIN_CACHE")
    assert cache() == Path.home() / ".cache" / "tocsin"


def test_missing_java_says_what_to_install(empty_path: Path) -> None:
    with pytest.raises(ServerFailed, match=r"Java 17 is missing: install it .*openjdk-17.*--stack embedded"):
        find_java()


def test_java_home_without_java_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServerFailed, match="Java 17 is missing"):
        find_java()


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="11.0.2"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServerFailed, match=r"Java 17 is needed, but .* is Java 11"):
        find_java()


def test_a_server_without_java_fails_before_it_starts_anything(empty_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="Java 17 is missing"):
        Kafka(tmp_path / "kafka").spawn()


def test_missing_maven_says_what_to_install(empty_path: Path) -> None:
    with pytest.raises(ServerFailed, match=r"Maven is missing, which fetches some: .*apt-get install maven"):
        fetch(SOME)


def test_software_is_fetched_once_and_appears_whole(
    empty_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = tmp_path / "calls"
    fake_maven(empty_path, f'echo "$@" >> {calls}')
    finished: list[Path] = []
    home = fetch(SOME, finished.append)
    assert fetch(SOME, finished.append) == home
    assert len(calls.read_text().splitlines()) == 1
    assert len(finished) == 1
    assert (home / "pom.xml").exists()
    assert capsys.readouterr().err.count("fetching some 1") == 1


def test_a_fetch_that_fails_leaves_nothing_and_says_why(empty_path: Path) -> None:
    fake_maven(empty_path, "echo '[ERROR] the line is dead'; exit 1")
    with pytest.raises(ServerFailed, match=r"fetching some ended with code 1: \[ERROR\] the line is dead \(log: .*\)"):
        fetch(SOME)
    assert not SOME.home().exists()
    assert not [path for path in cache().iterdir() if path.is_dir()]


def test_a_step_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="it took more than 0 s"):
        jars.run("it", ["/bin/sleep", "60"], log=tmp_path / "log", within=0.1)


@pytest.fixture
def archive(tmp_path: Path) -> ClassArchive:
    cache().mkdir(parents=True)
    java = tmp_path / "java"
    java.touch()
    return ClassArchive("some", str(java))


def written_by(archive: ClassArchive) -> Path:
    """Return the file that Java would write at its end, written."""
    path = Path(archive.options()[-1].removeprefix("-XX:ArchiveClassesAtExit="))
    path.write_bytes(b"classes")
    return path


def test_a_class_archive_is_used_once_it_was_written_whole(archive: ClassArchive) -> None:
    written_by(archive)
    archive.keep()
    used = next(option for option in archive.options() if "SharedArchiveFile" in option)
    assert Path(used.partition("=")[2]).read_bytes() == b"classes"


def test_a_class_archive_that_was_cut_is_written_anew(archive: ClassArchive) -> None:
    written_by(archive)
    archive.keep()
    kept = next(cache().glob("some-*.jsa"))
    os.truncate(kept, 3)
    assert any("ArchiveClassesAtExit" in option for option in archive.options())


def test_a_class_archive_of_a_killed_server_is_dropped(archive: ClassArchive) -> None:
    path = written_by(archive)
    archive.drop()
    archive.keep()
    assert not path.exists()
    assert any("ArchiveClassesAtExit" in option for option in archive.options())
