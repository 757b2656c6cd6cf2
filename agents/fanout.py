"""What of a micro-batch goes to which gateway: effects gathered by gateway and partition."""

from collections import defaultdict

from schemas.bus import Answer, Delivery, Opening, Part

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
