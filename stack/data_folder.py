"""The data folder of a deployment: one user at a time, the key of the tokens, what an earlier run left."""

import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Final, Self, TextIO

from schemas.errors import ServerFailed
from stack.logs import set_aside

_KEY_BYTES: Final = 32
_OF_A_RUN: Final = ("tocsin.db*", "worker-*")  # the embedded store and the workers' tables


class DataFolder:
    """A folder that one deployment uses at a time: `logs/`, `secret`, the servers' folders, the workers' tables.

    Without a path it is a new temporary one, which `close` removes. Raises `ServerFailed` if another process has it.
    """

    def __init__(self, path: Path | None) -> None:
        self.temporary = path is None
        self.path = Path(tempfile.mkdtemp(prefix="tocsin-")) if path is None else path.absolute()
        self.logs = self.path / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        for log in self.logs.glob("*.log"):
            set_aside(log)

    @property
    def secret_file(self) -> Path:
        """Where the key is that `secret` makes."""
        return self.path / "secret"

    def secret(self) -> str:
        """Return the key of the tokens; the first time it is made, readable by its owner only."""
        if not self.secret_file.exists():
            made = self.secret_file.with_name(".secret")
            made.unlink(missing_ok=True)
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(_KEY_BYTES) + "\n")
            made.replace(self.secret_file)
        return self.secret_file.read_text().strip()

    def forget_run(self) -> Path | None:
        """Move the embedded store and the tables of an earlier run to `previous`; None if there are none.

        A broker that lives in memory counts from 0 again, so what was derived from its predecessor is void.
        """
        left = [path for pattern in _OF_A_RUN for path in self.path.glob(pattern)]
        if not left:
            return None
        previous = self.path / "previous"
        shutil.rmtree(previous, ignore_errors=True)
        previous.mkdir()
        for path in left:
            path.replace(previous / path.name)
        return previous

    def close(self, *, keep: bool = False) -> None:
        """Let others use it. A temporary one is removed, unless it has logs that somebody wants to `keep`."""
        self._lock.close()
        if self.temporary and not (keep and any(self.logs.iterdir())):
            shutil.rmtree(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        self.close(keep=error is not None)

    def _locked(self) -> TextIO:
        lock = (self.path / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            lock.close()
            raise ServerFailed(f"{self.path} is in use by another `tocsin up`") from exc
        return lock
