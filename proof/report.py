"""What a check of a history says."""

from typing import Final

import msgspec

from proof.history import AnyEvent

INVARIANTS: Final = {
    "I1": "nothing acknowledged is lost, and nothing else appears",
    "I2": "one order: a log is the same on every device, in the order of its partition",
    "I3": "nothing is shown twice",
    "I4": "every hole is announced",
}
KEPT: Final = 10  # counter-examples an invariant


class Counts(msgspec.Struct):
    """How much was looked at; `checked` counts pairs of an acknowledged operation and a device that it was for."""

    events: int = 0
    operations: int = 0
    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    devices: int = 0
    shown: int = 0
    repeated: int = 0  # entries that came again and were not shown again
    skips: int = 0
    gaps: int = 0
    too_long: int = 0
    resets: int = 0
    statuses: int = 0
    dead_letters: int = 0
    faults: int = 0
    checked: int = 0


class Violation(msgspec.Struct, frozen=True):
    """A promise that was broken, and the few events that show it."""

    invariant: str
    what: str
    events: tuple[AnyEvent, ...]

    def text(self) -> str:
        """Return it in lines: what, then the events as they stand in the history."""
        lines = [f"  {msgspec.json.encode(event).decode()}" for event in self.events]
        return "\n".join([f"{self.invariant} ({INVARIANTS[self.invariant]}): {self.what}", *lines])


class Report(msgspec.Struct):
    """Counts, how often each invariant was broken (`totals`), and the first counter-examples of each."""

    counts: Counts
    totals: dict[str, int]
    violations: list[Violation]

    @property
    def violated(self) -> int:
        """How often promises were broken, all together."""
        return sum(self.totals.values())

    def found(self, invariant: str) -> int:
        """Return how often one promise was broken."""
        return self.totals[invariant]

    def text(self) -> str:
        """Return counts and verdict in lines, with one counter-example an invariant."""
        counts = " ".join(f"{name}={number}" for name, number in msgspec.structs.asdict(self.counts).items() if number)
        verdict = [f"{name} {f'BROKEN {count} times' if count else 'holds'}" for name, count in self.totals.items()]
        first = {violation.invariant: violation for violation in reversed(self.violations)}
        return "\n".join([counts, *verdict, *(first[name].text() for name in INVARIANTS if name in first)])
