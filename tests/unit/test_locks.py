"""The lock files hold for whatever is published after they were made."""

import re
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked(file: str) -> dict[str, set[str]]:
    """Return the extras of each locked package, by name."""
    pins = re.findall(r"^([\w.-]+)(?:\[([\w,-]+)\])?==", (ROOT / file).read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): set(extras.split(",")) - {""} for name, extras in pins}


def wanted_extras() -> dict[str, set[str]]:
    """Return the extras with which installed packages want each other, by name."""
    requirements = [Requirement(text) for one in distributions() for text in one.requires or ()]
    unconditional = [one for one in requirements if one.extras and "extra ==" not in str(one.marker or "")]
    return {canonicalize_name(one.name): one.extras for one in unconditional}


def test_a_package_that_is_wanted_with_extras_is_locked_with_them() -> None:
    """Without, pip takes the newest version as soon as there is one beyond the lock, and then refuses it."""
    lock = locked("requirements-dev.txt")
    wanted = {name: extras for name, extras in wanted_extras().items() if name in lock}
    assert wanted
    assert {name: lock[name] for name in wanted} == wanted
