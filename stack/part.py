"""What a deployment consists of, as far as its supervision is concerned."""

from pathlib import Path
from typing import Protocol


class Part(Protocol):
    """What servers and programs have in common."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    @property
    def role(self) -> str:
        """Its name in the ready file, the same for every kind of server that does the work."""

    @property
    def log(self) -> Path:
        """Where its output goes."""

    @property
    def durable(self) -> bool:
        """Whether what it holds outlives its process."""

    @property
    def running(self) -> bool:
        """Whether its process runs."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def unready(self) -> str:
        """Why it was not ready when it was asked last."""

    def spawn(self) -> None:
        """Start it without waiting."""

    def ready(self) -> bool:
        """Whether it can be used; raises `ServerFailed` where waiting on is of no use."""

    def stop(self) -> None:
        """End it in good order."""

    def kill(self) -> None:
        """End it at once."""

    def obituary(self) -> str:
        """One line about how it ended."""
