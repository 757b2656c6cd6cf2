"""What Kafka and Cassandra share: jars from the cache, Java, a class archive."""

import shutil
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from stack.jars import Jars, fetch
from stack.servers.jvm import FRUGAL, ClassArchive, find_java, missing_java
from stack.servers.server import Server


class JavaServer(Server):
    """A server that runs in a Java of its own."""

    jars: ClassVar[Jars]
    heap: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path, port: int = 0, *, log: Path | None = None) -> None:
        super().__init__(folder, port, log=log)
        self._archive: ClassArchive | None = None

    def missing(self) -> dict[str, str]:
        """Return what has to be installed before it can start; Maven only where the jars are yet to be fetched."""
        maven = {} if self.jars.home().exists() or shutil.which("mvn") else {"Maven": "maven"}
        return missing_java() | maven

    def fetch(self) -> None:
        """Get the jars into the cache if they are missing; the first time takes about a minute."""
        find_java()
        fetch(self.jars, self._finish)

    def stop(self) -> None:
        """End it; the first clean end of all takes some seconds more and leaves a class archive."""
        if not self.running:
            return
        ended = self._started().stop(self.stop_within)
        if self._archive is not None:
            self._archive.keep() if ended else self._archive.drop()

    def kill(self) -> None:
        """End it as kill -9 does."""
        super().kill()
        if self._archive is not None:
            self._archive.drop()

    def _prepare(self) -> list[str]:
        java = find_java()
        home = self.jars.home()
        self._archive = ClassArchive(home.name, java)
        crash = [f"-XX:ErrorFile={self.folder}/java-crash.log", "-XX:-CreateCoredumpOnCrash"]
        options = [*FRUGAL, *self.heap, *crash, *self._archive.options(), *self._configure()]
        return [java, *options, "-cp", f"{home}/lib/*", *self._main()]

    def _finish(self, home: Path) -> None:
        """Add to the freshly fetched jars in `home` what every start needs."""

    @abstractmethod
    def _configure(self) -> list[str]:
        """Write the configuration and return the options of Java that name it."""

    @abstractmethod
    def _main(self) -> list[str]:
        """Return the main class and its arguments."""
