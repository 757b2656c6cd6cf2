"""The data folder of a deployment: one user at a time, the key of the tokens, what an earlier run left."""

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Final, Self, TextIO

from schemas.errors import ServerFailed
from stack.lock import Held, hold
from stack.logs import set_aside

EMBEDDED: Final = "embedded"  # the Kafka whose records are gone with its process
_KEY_BYTES: Final = 32
_SHORTEST_KEY: Final = 32  # characters
_STORE: Final = "tocsin.db*"
_TABLES: Final = "worker-*"


class DataFolder:
    """A folder that one deployment uses at a time: `logs/`, `secret`, the servers' folders, the workers' tables.

    Without a path it is a new temporary one, which `close` removes. The key of the tokens lies in `keys`, where that
    is another folder. Raises `ServerFailed` if another process has it or nobody can write there.
    """

    def __init__(self, path: Path | None, *, keys: Path | None = None) -> None:
        self.temporary = path is None
        try:
            self.path = Path(tempfile.mkdtemp(prefix="tocsin-")) if path is None else path.absolute()
            self.logs = self.path / "logs"
            self._keys = (keys or self.path).absolute()
            for folder in (self.logs, self._keys):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            for log in self.logs.glob("*.log"):
                set_aside(log)
        except OSError as exc:
            raise ServerFailed(
                f"{exc.filename or path} cannot be written: {exc.strerror}; --data names a folder"
            ) from exc

    @property
    def secret_file(self) -> Path:
        """Where the key is that `secret` makes."""
        return self._keys / "secret"

    def secret(self) -> str:
        """Return the key of the tokens; the first time it is made, readable by its owner only.

        The file holds nothing else, not even the end of a line. Raises `ServerFailed` if it holds no key.
        """
        if not self.secret_file.exists():
            made = self.secret_file.with_name(".secret")
            made.unlink(missing_ok=True)
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(_KEY_BYTES))
            made.replace(self.secret_file)
        key = self.secret_file.read_text().strip()
        if len(key) < _SHORTEST_KEY:
            raise ServerFailed(
                f"{self.secret_file} is shorter than {_SHORTEST_KEY} characters; without it a new key is made"
            )
        return key

    def belong_to(self, kafka: str, *, with_store: bool) -> Path | None:
        """Make sure that what is here belongs to this Kafka: `EMBEDDED`, or the id of a lasting one.

        What an embedded one left is void, for it counts from 0 again: the tables, and the store if it is here
        (`with_store`), are moved to the folder that is returned. Raises `ServerFailed` if the store is of another
        lasting Kafka: its positions would make new records look like old ones.
        """
        if not with_store:
            return self._set_aside(_TABLES) if kafka == EMBEDDED else None
        mark = self.path / "kafka.id"
        noted = mark.read_text().strip() if mark.exists() else kafka
        left = any(self.path.glob(_STORE))
        if left and noted not in (kafka, EMBEDDED):
            raise ServerFailed(
                f"the store in {self.path} is of another Kafka ({noted}) than this one ({kafka}); "
                "choose another folder with --data"
            )
        previous = self._set_aside(_STORE, _TABLES) if EMBEDDED in (noted, kafka) else None
        mark.write_text(f"{kafka}\n")
        return previous

    def _set_aside(self, *patterns: str) -> Path | None:
        left = [path for pattern in patterns for path in self.path.glob(pattern)]
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
        try:
            return hold(self.path / "lock")
        except Held as exc:
            raise ServerFailed(f"{self.path} is in use by another `tocsin up` (pid {exc.pid})") from exc
