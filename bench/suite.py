"""All benchmarks in turn: `python -m bench all --help`. Tables on the terminal, figures and drawings in a folder.

Each benchmark runs in a process of its own, for some keep themselves to one core. What fails is said at the end, and
the others run all the same. The figures are written after each; with `--only`, those of others that the folder has from
the same machine and version stay.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from bench.drawings import draw


class Step(msgspec.Struct, frozen=True):
    """A benchmark and its options; `quick` is None where it has no place in a run of two minutes."""

    name: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None


STEPS: Final = (
    Step("latency", quick=("--quick", "--stack", "embedded")),
    Step("ladder"),
    Step("priority"),
    Step("fairness"),
    Step("devices"),
    Step("whole"),
    Step("tier", quick=("--quick", "--only", "tocsin,tocsin-no-acks,centrifuge,ceiling")),
    Step("inbox", quick=("--store", "sqlite", "--rates", "4000", "--seconds", "4", "--rounds", "1")),
    Step("acks", quick=("--store", "sqlite", "--rates", "25000", "--seconds", "5", "--rounds", "1")),
    Step("chain"),
    Step("rows"),
    Step("herd", full=("--only", "gateway,centrifuge,chain-cassandra")),
    Step("slow"),
    Step("population", full=("--connections", "20000,50000,100000")),
)


def machine() -> dict[str, Any]:
    """Return what figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return {
        "version": version("tocsin"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": processor,
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
    }


def _before(file: Path, machine: dict[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what a file of figures has of other benchmarks, if it is from the same machine and version."""
    try:
        known = msgspec.json.decode(file.read_bytes())
        if known["machine"] != machine or known["quick"]:
            return {"begun": {}, "figures": {}}
        return {
            part: {name: it for name, it in known[part].items() if name not in names} for part in ("begun", "figures")
        }
    except (OSError, msgspec.DecodeError, KeyError):
        return {"begun": {}, "figures": {}}


def run(names: Sequence[str], out: Path, *, quick: bool) -> int:
    """Run benchmarks and write `figures.json` and drawings; return how many failed."""
    out.mkdir(parents=True, exist_ok=True)
    file, here = out / "figures.json", machine()
    before = {"begun": {}, "figures": {}} if quick else _before(file, here, names)
    found: dict[str, Any] = {"machine": here, "quick": quick, **before, "failed": []}
    steps = [step for step in STEPS if step.name in names and not (quick and step.quick is None)]
    for number, step in enumerate(steps, 1):
        print(f"{number} of {len(steps)}: {step.name} ...", file=sys.stderr)
        rows = out / f".{step.name}.json"
        rows.unlink(missing_ok=True)
        options = step.full if step.quick is None or not quick else step.quick
        found["begun"][step.name] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        command = [sys.executable, "-m", "bench", step.name, *options, "--json", str(rows)]
        if subprocess.run(command, check=False).returncode:
            found["failed"].append(step.name)
        if rows.exists():
            found["figures"][step.name] = msgspec.json.decode(rows.read_bytes())
            rows.unlink()
        file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    files = [file, *draw(found["figures"], out)]
    print("written:", *files, sep="\n  ")
    if found["failed"]:
        print(f"failed: {', '.join(found['failed'])}", file=sys.stderr)
    return len(found["failed"])


def main(arguments: Sequence[str]) -> int:
    """Run; the exit code is 1 if a benchmark failed, or lost or repeated anything."""
    known = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="python -m bench all", description=__doc__)
    parser.add_argument("--only", default=",".join(known), help="separated by commas: %(default)s")
    parser.add_argument("--quick", action="store_true", help="a glance, two minutes")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder: %(default)s")
    given = parser.parse_args(arguments)
    names = given.only.split(",")
    for name in names:
        if name not in known:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(known)}")
    return 1 if run(names, given.out, quick=given.quick) else 0
