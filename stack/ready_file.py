"""What a running deployment says of itself, in files that appear whole and disappear with it."""

import os
from pathlib import Path
from typing import Any

import msgspec


def write_json(path: Path, content: dict[str, Any], *, private: bool = False) -> None:
    """Write a file so that a reader sees all of it or none; `private`: only we may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.{os.getpid()}")
    written.touch(0o600 if private else 0o666)  # less what the umask takes
    written.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    written.replace(path)


def remove_own(path: Path, pid: int) -> None:
    """Remove the file unless another process (its `pid`) has written it since, or its folder is not ours any more."""
    try:
        owner = msgspec.json.decode(path.read_bytes(), type=dict[str, Any]).get("pid", pid)
        if owner == pid:
            path.unlink(missing_ok=True)
    except (OSError, msgspec.DecodeError):
        return
