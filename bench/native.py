"""What benchmarks need in C, Go and JavaScript: built once, kept in the cache under the hash of its sources."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from schemas.errors import ServerFailed
from stack.jars import cache

C: Final = ("cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o")
GO: Final = ("go", "build", "-buildvcs=false", "-o")


def built_c(name: str, sources: Sequence[Path]) -> Path:
    """Return the program of C sources. Raises `ServerFailed`."""
    files = [source for source in sources if source.suffix == ".c"]
    return _built(name, sources, lambda out: [*C, str(out), *map(str, files)], sources[0].parent)


def built_go(name: str, folder: Path) -> Path:
    """Return the program of a Go module. Raises `ServerFailed`, also where there is no Go."""
    sources = sorted(path for path in folder.iterdir() if path.is_file())
    return _built(name, sources, lambda out: [*GO, str(out), "."], folder)


def installed_npm(name: str, folder: Path) -> Path:
    """Return a copy of a folder in which its npm packages are installed. Raises `ServerFailed`."""
    sources = sorted(path for path in folder.iterdir() if path.is_file())
    copy = cache() / "bench" / f"{name}-{_digest(sources)}"
    if not copy.exists():
        partial = copy.with_suffix(f".{os.getpid()}")
        partial.mkdir(parents=True)
        for source in sources:
            shutil.copy(source, partial)
        run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], partial)
        partial.replace(copy)
    return copy


def _digest(sources: Sequence[Path]) -> str:
    return sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def _built(name: str, sources: Sequence[Path], command: Callable[[Path], list[str]], folder: Path) -> Path:
    program = cache() / "bench" / f"{name}-{_digest(sources)}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(f".{os.getpid()}")
        run(command(partial), folder)
        partial.replace(program)
    return program


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a tool to its end. Raises `ServerFailed` with the end of what it said."""
    if shutil.which(command[0]) is None:
        raise ServerFailed(f"{command[0]} is not installed, and this benchmark needs it")
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerFailed(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
