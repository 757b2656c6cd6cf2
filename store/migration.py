"""The numbered changes of a store's schema, which come with the package as `migrations/{kind}/{number}_{name}`."""

from collections.abc import Sequence
from importlib import resources
from typing import Final, Literal

import msgspec

from schemas.errors import StoreBehind

SUFFIX: Final = {"sqlite": ".sql", "cassandra": ".cql"}
IDENTITY: Final = "SELECT epoch FROM identity WHERE id = 1"  # what the first migration of each kind makes


class Migration(msgspec.Struct, frozen=True):
    """One change: its name, such as `0001_logs`, and its statements in order."""

    name: str
    statements: tuple[str, ...]


def load(kind: Literal["sqlite", "cassandra"]) -> list[Migration]:
    """Return all migrations of a kind of store, in order."""
    folder = resources.files("store") / "migrations" / kind
    files = sorted((file for file in folder.iterdir() if file.name.endswith(SUFFIX[kind])), key=lambda file: file.name)
    return [Migration(file.name.removesuffix(SUFFIX[kind]), statements(file.read_text("utf-8"))) for file in files]


def statements(text: str) -> tuple[str, ...]:
    """Split a file into statements: each ends with `;` at the end of a line, comments have lines of their own."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    parts = f"{chr(10).join(lines)}\n".split(";\n")
    return tuple(part.strip() for part in parts if part.strip())


def missing(migrations: Sequence[Migration], applied: set[str]) -> list[Migration]:
    """Return the migrations that are not applied, in order."""
    return [migration for migration in migrations if migration.name not in applied]


def refuse_if_behind(names: Sequence[str]) -> None:
    """Raise `StoreBehind` if any migration is pending."""
    if names:
        raise StoreBehind(f"the store lacks {', '.join(names)}: run `tocsin store apply`")
