"""What of a micro-batch goes to which gateway: effects gathered by gateway and partition."""

from collections import defaultdict
from collections.abc import Container, Sequence

from schemas.bus import Answer, Delivery, Opening, Part, Run
from schemas.rows import Row
from streams.connections import Sessions, runs_of

PART_DELIVERIES = 200  # deliveries a part, so that a message can be cut between parts


class Fanout:
    """Gathers openings, deliveries and answers; `parts()` gives them by gateway."""

    def __init__(self, epochs: dict[int, int]) -> None:
        self._epochs = epochs
        self._parts: defaultdict[tuple[str, int], list[Part]] = defaultdict(list)

    def _part(self, gateway: str, partition: int) -> Part:
        parts = self._parts[gateway, partition]
        if not parts or len(parts[-1].deliveries) + len(parts[-1].answers) >= PART_DELIVERIES:
            empty = Part(partition, self._epochs[partition], openings=[], deliveries=[], answers=[])
            parts.append(empty)
        return parts[-1]

    def open(self, gateway: str, partition: int, opening: Opening) -> None:
        """Add the answer to `connected`."""
        self._part(gateway, partition).openings.append(opening)

    def deliver(self, gateway: str, partition: int, delivery: Delivery) -> None:
        """Add runs for sessions of one user."""
        self._part(gateway, partition).deliveries.append(delivery)

    def answer(self, gateway: str, partition: int, answer: Answer) -> None:
        """Add the answer to a sync."""
        self._part(gateway, partition).answers.append(answer)

    def parts(self) -> dict[str, list[Part]]:
        """Return {gateway: parts}, in the order they were added within a partition."""
        by_gateway: defaultdict[str, list[Part]] = defaultdict(list)
        for (gateway, _), parts in self._parts.items():
            by_gateway[gateway] += parts
        return dict(by_gateway)


def by_gateway(places: Sessions, dead: Container[str]) -> dict[str, list[str]]:
    """Return the sessions by gateway, without those of gateways that are dead."""
    found: dict[str, list[str]] = {}
    for session, place in places.items():
        gateway = place.gateway
        if gateway in found:
            found[gateway].append(session)
        elif gateway not in dead:
            found[gateway] = [session]
    return found


def sendings(
    places: Sessions, dead: Container[str], rows: Sequence[Row], log: str, now_ms: int
) -> list[tuple[str, list[str], list[Run]]]:
    """Return (gateway, sessions, runs) for entries of one user.

    Devices see the same runs unless a row is for one of them only: then what replaces what also depends on the device.
    """
    if not places:
        return []
    if not [row for row in rows if row.device]:  # cheaper than any() for the one row that there mostly is
        runs = runs_of(rows, log, "", now_ms)
        return [(gateway, sessions, runs) for gateway, sessions in by_gateway(places, dead).items()]
    by_device: defaultdict[str, Sessions] = defaultdict(dict)
    for session, place in places.items():
        by_device[place.device][session] = place
    return [
        (gateway, sessions, runs_of(rows, log, device, now_ms))
        for device, its in by_device.items()
        for gateway, sessions in by_gateway(its, dead).items()
    ]
