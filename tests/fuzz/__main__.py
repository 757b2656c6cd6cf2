"""`python -m tests.fuzz [--inputs N] [--seed S] [--out DIR]`: fuzz everything that reads what others say.

Prints inputs a second and crashes; a crash leaves its input, made small, in DIR. Exit code 1 if there was one.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from pathlib import Path

from tests.fuzz.harness import Crash, Tally, run, shares

PIECE = 20_000  # inputs that a process takes at a time


def main(total: int, seed: int, processes: int, out: Path) -> int:
    pieces = [
        (name, seed + 1_000_003 * number, min(PIECE, count - number * PIECE))
        for name, count in shares(total)
        for number in range(-(-count // PIECE))
    ]
    begun = time.monotonic()
    tallies: dict[str, Tally] = {}
    crashes: dict[str, Crash] = {}
    with ProcessPoolExecutor(processes) as pool:
        for (name, _, _), done in zip(pieces, pool.map(run, *zip(*pieces, strict=True)), strict=True):
            tally = tallies.setdefault(name, Tally())
            tally.inputs, tally.refused = tally.inputs + done.inputs, tally.refused + done.refused
            tally.seconds += done.seconds
            crashes.update({f"{crash.target}: {crash.error}": crash for crash in done.crashes})
    for name, tally in tallies.items():
        rate = tally.inputs / tally.seconds
        print(f"{name:>14}  {tally.inputs:>9,} inputs  {rate:>8,.0f}/s a process  {tally.refused:>9,} refused in order")
    seconds, inputs = time.monotonic() - begun, sum(tally.inputs for tally in tallies.values())
    print(f"{inputs:,} inputs in {seconds:.0f} s ({inputs / seconds:,.0f}/s), {len(crashes)} crashes, seed {seed}")
    for title, crash in crashes.items():
        path = out / f"{crash.target}-{blake2b(crash.data, digest_size=4).hexdigest()}"
        out.mkdir(parents=True, exist_ok=True)
        path.write_bytes(crash.data)
        print(f"CRASH {title}: {path}: {crash.data[:200]!r}")
    return 1 if crashes else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    given = parser.parse_args()
    sys.exit(main(given.inputs, given.seed, given.processes, given.out))
