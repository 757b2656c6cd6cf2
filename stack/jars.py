"""Java software: fetched once with Maven into a cache that all checkouts and runs share."""

import fcntl
import hashlib
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

import msgspec

from schemas.errors import ServerFailed
from stack.child import Child
from stack.waits import Waits, so_far

_LOOK_EVERY: Final = 0.05  # s
_MAVEN_WITHIN: Final = 900.0  # s: a slow line is no error
_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:2.8"

_POM: Final = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tocsin</groupId><artifactId>{name}</artifactId><version>{version}</version><packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""
_DEPENDENCY: Final = (
    "    <dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


class Jars(msgspec.Struct, frozen=True):
    """Software by its Maven coordinates (`group:artifact:version`); what these depend on comes with them."""

    name: str
    version: str
    artifacts: tuple[str, ...]

    def pom(self) -> str:
        """Return the Maven project that stands for it."""
        dependencies = "\n".join(_DEPENDENCY.format(*artifact.split(":")) for artifact in self.artifacts)
        return _POM.format(name=self.name, version=self.version, dependencies=dependencies)

    def home(self) -> Path:
        """Return its folder in the cache: the jars are in `lib`. Another list of artifacts has another folder."""
        mark = hashlib.sha256(self.pom().encode()).hexdigest()[:8]
        return cache() / f"{self.name}-{self.version}-{mark}"

    def log(self, step: str) -> Path:
        """Return where a step of fetching it writes its log; the one of the time before is removed."""
        path = self.home().with_name(f"{self.home().name}.{step}.log")
        path.unlink(missing_ok=True)
        return path


def cache() -> Path:
    """Return the cache folder: TOCSIN_CACHE, else `~/.cache/tocsin`."""
    return Path(os.environ.get("TOCSIN_CACHE") or Path.home() / ".cache" / "tocsin").absolute()


def fetch(jars: Jars, finish: Callable[[Path], None] = lambda _: None) -> Path:
    """Return the folder of the software, fetched first if it is not there.

    `finish` may add to a freshly fetched folder before it becomes visible, which it does as a whole. Of several
    processes one fetches and the others wait. Raises `ServerFailed`.
    """
    home = jars.home()
    if home.exists():
        return home
    with _lock(home):
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix=f".{home.name}-", dir=home.parent) as folder:
                made = Path(folder) / "made"
                _download(jars, made)
                finish(made)
                made.replace(home)
    return home


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as file:
        _wait(f"waiting for another process that fetches {home.name}", lambda: _locked(file))
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(what: str, over: Callable[[], bool], within: float = math.inf) -> bool:
    """Wait until it is over, at most `within` seconds, and say now and then what for; return whether it is."""
    waits, begun = Waits(), time.monotonic()
    waits.began(what, begun)
    while not over():
        now = time.monotonic()
        if now > begun + within:
            return False
        for _, taken in waits.overdue(now):
            _say(so_far(what, taken))
        time.sleep(_LOOK_EVERY)
    return True


def _say(line: str) -> None:
    sys.stderr.write(f"tocsin: {line}\n")


def _download(jars: Jars, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerFailed(
            f"Maven is missing, which fetches {jars.name}: install it (apt-get install maven) or use --stack embedded"
        )
    _say(f"fetching {jars.name} {jars.version} from Maven Central, once; about a minute ...")
    folder.mkdir()
    pom = folder / "pom.xml"
    pom.write_text(jars.pom())
    command = [
        maven, "--batch-mode", "--quiet", "--strict-checksums", "--file", str(pom), f"{_PLUGIN}:copy-dependencies",
        "-DincludeScope=runtime", f"-DoutputDirectory={folder / 'lib'}",
    ]  # fmt: skip
    run(f"fetching {jars.name}", command, log=jars.log("maven"), within=_MAVEN_WITHIN)


def run(name: str, command: list[str], *, log: Path, within: float) -> None:
    """Run a command to its end. Raises `ServerFailed` if it fails or takes more than `within` seconds."""
    child = Child(name, command, log=log)
    child.spawn()
    try:
        if not _wait(f"still {name}", lambda: not child.running, within):
            raise ServerFailed(f"{name} took more than {within:.0f} s (log: {log})")
    finally:
        child.kill()
    if child.code != 0:
        raise ServerFailed(child.obituary())
