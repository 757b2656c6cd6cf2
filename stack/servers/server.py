"""What all servers share: a folder, a port on loopback, one child, readiness by a real answer."""

import signal
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from schemas.errors import ServerFailed
from stack.child import Child
from stack.ports import LOOPBACK, free_port, obstacle

_POLL: Final = 0.05  # s between two looks at a server that starts
_ANSWER_WITHIN: Final = 1.0  # s that a server has for the answer to a probe


class Server(ABC):
    """A server of one node that listens on loopback and keeps all it has in `folder`.

    `spawn`, then `ready` until it is true, and `stop`; or `with Kafka(folder) as kafka:`. `spawn` and `restart` belong
    into the main thread. The port is the same for the life of the object; 0 takes a free one.
    """

    name: ClassVar[str]
    role: ClassVar[str]  # what it is to the others: kafka, redis or cassandra
    start_within: ClassVar[float] = 60.0  # s
    stop_within: ClassVar[float] = 20.0  # s
    durable: ClassVar[bool] = True  # what it holds outlives its process

    def __init__(self, folder: Path, port: int = 0, *, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.log = log or self.folder / f"{self.name}.log"
        self._child: Child | None = None
        self._deadline = 0.0

    @property
    def address(self) -> str:
        """Where clients find it: host:port."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Where clients find it, as the settings name it."""
        return self.address

    @property
    def pid(self) -> int:
        """Its process id. Raises `ServerFailed` before the first start."""
        return self._started().pid

    @property
    def unready(self) -> str:
        """Why it is waited for."""
        return f"no answer at {self.address} yet (log: {self.log})"

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.running

    def missing(self) -> dict[str, str]:
        """Return what has to be installed before it can start: {what: Debian's package}."""
        return {}

    def fetch(self) -> None:  # noqa: B027 - not abstract: most servers are installed already
        """Get the software if it is missing; this may take a minute. Raises `ServerFailed`."""

    def spawn(self) -> None:
        """Start the process without waiting for it. Raises `ServerFailed` if it cannot work."""
        if reason := obstacle(self.port):
            raise ServerFailed(f"{self.name} cannot start: {reason}")
        self.fetch()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._child = Child(self.name, self._prepare(), log=self.log)
        self._child.spawn()
        self._deadline = time.monotonic() + self.start_within

    def ready(self) -> bool:
        """Return whether it answers now. Raises `ServerFailed` if it ended or the time to start is over."""
        child = self._started()
        if not child.running:
            raise ServerFailed(child.obituary())
        if self._answers():
            return True
        if time.monotonic() > self._deadline:
            raise ServerFailed(f"{self.name} gave no answer within {self.start_within:.0f} s (log: {self.log})")
        return False

    def wait(self) -> None:
        """Return when it answers. Raises `ServerFailed` as `ready` does, and ends the process then."""
        try:
            while not self.ready():
                time.sleep(_POLL)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it: asked first, killed when it takes too long. Nothing happens if it has ended."""
        if self.running:
            self._started().stop(self.stop_within)

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        """End it if it runs, and start it again on its port with its data; returns when it answers."""
        self.stop()
        self.spawn()
        self.wait()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and say nothing."""
        self._started().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._started().send(signal.SIGCONT)

    def obituary(self) -> str:
        """Return one line about how it ended."""
        return self._started().obituary()

    def __enter__(self) -> Self:
        self.spawn()
        self.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Write the configuration and return the command."""

    @abstractmethod
    def _answers(self) -> bool:
        """Ask it something small; return whether the answer is right."""

    def _started(self) -> Child:
        if self._child is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._child

    def _ask(self, question: bytes, length: int) -> bytes:
        """Return the first `length` bytes of the answer, fewer if none or too little comes."""
        answer = b""
        try:
            with socket.create_connection((LOOPBACK, self.port), _ANSWER_WITHIN) as connection:
                connection.sendall(question)
                while len(answer) < length and (more := connection.recv(length - len(answer))):
                    answer += more
        except OSError:  # nobody listens yet, or too slowly: no answer
            return answer
        return answer
