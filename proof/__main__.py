"""`python -m proof check FILE...`: counts and verdict of histories; exit 1 with a counter-example if one is broken."""

import sys
import zlib
from pathlib import Path
from typing import Final

import msgspec

from proof import judge as judging
from proof.checker import check
from proof.history import read
from proof.recovery import Recoveries

_USAGE: Final = "usage: python -m proof check [--judge] HISTORY..."


def main(arguments: list[str]) -> int:
    """Return 0 if every history keeps the promises, 1 if one does not, 2 for wrong usage."""
    judged = "--judge" in arguments
    command, *files = [argument for argument in arguments if argument != "--judge"] or [""]
    if command != "check" or not files:
        print(_USAGE, file=sys.stderr)
        return 2
    try:
        return max([_check(Path(file), judged=judged) for file in files])
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError) as exc:
        print(f"proof: {exc}", file=sys.stderr)
        return 2


def _check(path: Path, *, judged: bool) -> int:
    report, times = check(read(path)), Recoveries.of(read(path))
    print(f"{path}\n{report.text()}")
    if times.after:
        print(f"longest recovery {max(times.after.values()):.2f} s after {len(times.after)} faults")
    broken = report.violated > 0
    if judged:
        verdict = judging.judge(path)
        print(f"judge: {verdict.verdict} {verdict.message}".rstrip())
        broken = broken or verdict.verdict != judging.LINEARIZABLE
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
