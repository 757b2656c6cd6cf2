"""Java itself: which one, and the class archives that halve the start of a server (AppCDS)."""

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Final

from schemas.errors import ServerFailed
from stack.jars import cache

_OLDEST: Final = 17
_PACKAGE: Final = "openjdk-17-jre-headless"  # Debian's
_VERSION: Final = re.compile(r'^JAVA_VERSION="(\d+)', re.MULTILINE)

# Servers of one node that live for minutes: what matters is that they start soon and leave the cores to others.
FRUGAL: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")


def missing_java() -> dict[str, str]:
    """Return Java and its Debian package if there is none."""
    return {} if _java() else {f"Java {_OLDEST}": _PACKAGE}


def find_java() -> str:
    """Return the path of a Java that is new enough: of JAVA_HOME, else of PATH. Raises `ServerFailed`."""
    program = _java()
    if program is None:
        raise ServerFailed(
            f"Java {_OLDEST} is missing: install it (apt-get install {_PACKAGE}) or use --stack embedded"
        )
    release = _java_home(program) / "release"
    version = _VERSION.search(release.read_text()) if release.exists() else None
    if version and int(version[1]) < _OLDEST:
        raise ServerFailed(
            f"Java {_OLDEST} is needed, but {program} is Java {version[1]}; "
            f"install it (apt-get install {_PACKAGE}) and let JAVA_HOME name its folder"
        )
    return program


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    return program if program and os.access(program, os.X_OK) else None


def _java_home(program: str) -> Path:
    return Path(program).resolve().parent.parent


class ClassArchive:
    """The parsed classes of a server, written by Java at the first clean stop and mapped at the later starts.

    Java checks that the archive fits and what is in it, and does without where it is wrong; a cut one would end it, so
    the length is in the name. It is worth nothing to another Java, so the name says which one wrote it.
    """

    def __init__(self, name: str, java: str) -> None:
        modules = _java_home(java) / "lib" / "modules"
        known = modules.stat() if modules.exists() else Path(java).stat()
        mark = hashlib.sha256(f"{modules} {known.st_size} {known.st_mtime_ns}".encode()).hexdigest()[:8]
        self._name = f"{name}-java-{mark}"
        self._unfinished = cache() / f".{self._name}.{os.getpid()}.jsa"

    def options(self) -> list[str]:
        """Return the options that make Java use the archive, or write it when it ends."""
        quiet = ["-Xlog:disable", "-Xlog:all=error:stderr"]  # it warns of each class that it leaves out
        if archive := self._whole():
            return [*quiet, "-Xshare:auto", f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces"]
        return [*quiet, f"-XX:ArchiveClassesAtExit={self._unfinished}"]

    def keep(self) -> None:
        """After a clean end: keep what Java wrote, if it wrote."""
        if self._unfinished.exists():
            size = self._unfinished.stat().st_size
            self._unfinished.replace(cache() / f"{self._name}-{size}.jsa")

    def drop(self) -> None:
        """After any other end: what Java wrote may be half."""
        self._unfinished.unlink(missing_ok=True)

    def _whole(self) -> Path | None:
        found = cache().glob(f"{self._name}-*.jsa")
        return next((path for path in found if path.stem.endswith(f"-{path.stat().st_size}")), None)
