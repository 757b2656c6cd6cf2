"""What of a micro-batch goes to which gateway: effects gathered by gateway and partition."""

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from typing import Final

from schemas.bus import GAP, Answer, Delivery, Opening, Part, Refusal, Run
from schemas.rows import Row
from streams.connections import Sessions, runs_of

PART_DELIVERIES = 200  # deliveries a part, so that a message can be cut between parts
PART_BYTES: Final = 256 * 1024  # after which a part is closed, and after which the runs of a delivery go on in another
PART_SESSIONS: Final = 2_000  # of one delivery
REPEATED_BYTES: Final = 1024 * 1024  # of frames of one user that are sent once more, since devices see others of them
RUN_BYTES: Final = 60  # of a run beside its frame, and of a session's name


class Fanout:
    """Gathers openings, deliveries and answers; `parts()` gives them by gateway."""

    def __init__(self, epochs: dict[int, int]) -> None:
        self._epochs = epochs
        self._parts: defaultdict[tuple[str, int], list[Part]] = defaultdict(list)
        self._sizes: defaultdict[tuple[str, int], int] = defaultdict(int)  # bytes of each last part, about

    def _part(self, gateway: str, partition: int, size: int) -> Part:
        """Return a part that has room for so many bytes, or nothing else."""
        place = (gateway, partition)
        parts = self._parts[place]
        self._sizes[place] += size
        if (
            not parts
            or len(parts[-1].deliveries) + len(parts[-1].answers) >= PART_DELIVERIES
            or self._sizes[place] > PART_BYTES
        ):
            self._sizes[place] = size
            empty = Part(partition, self._epochs[partition], openings=[], deliveries=[], answers=[], refusals=[])
            parts.append(empty)
        return parts[-1]

    def open(self, gateway: str, partition: int, opening: Opening) -> None:
        """Add the answer to `connected`."""
        self._part(gateway, partition, RUN_BYTES * (len(opening.logs) + 1)).openings.append(opening)

    def refuse(self, gateway: str, partition: int, refusal: Refusal) -> None:
        """Let a gateway end a session."""
        self._part(gateway, partition, RUN_BYTES).refusals.append(refusal)

    def deliver(self, gateway: str, partition: int, delivery: Delivery) -> None:
        """Add runs for sessions of one user."""
        size = _size(delivery.runs) + RUN_BYTES * len(delivery.sessions)
        if size <= PART_BYTES:
            self._part(gateway, partition, size).deliveries.append(delivery)
            return
        for first in range(0, len(delivery.sessions), PART_SESSIONS):
            sessions = delivery.sessions[first : first + PART_SESSIONS]
            for runs in _cut(delivery.runs):
                size = _size(runs) + RUN_BYTES * len(sessions)
                self._part(gateway, partition, size).deliveries.append(Delivery(delivery.user, sessions, runs))

    def answer(self, gateway: str, partition: int, answer: Answer) -> None:
        """Add the answer to a sync."""
        self._part(gateway, partition, _size(answer.runs) + RUN_BYTES).answers.append(answer)

    def parts(self) -> dict[str, list[Part]]:
        """Return {gateway: parts}, in the order they were added within a partition."""
        by_gateway: defaultdict[str, list[Part]] = defaultdict(list)
        for (gateway, _), parts in self._parts.items():
            by_gateway[gateway] += parts
        return dict(by_gateway)


def _size(runs: Sequence[Run]) -> int:
    """Return how many bytes runs take, about."""
    size = RUN_BYTES * len(runs)
    for run in runs:
        if run.frame is not None:
            size += len(run.frame)
    return size


def _cut(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Yield runs in pieces, each of so many bytes or of one run."""
    piece: list[Run] = []
    size = 0
    for run in runs:
        size += RUN_BYTES + len(run.frame or b"")
        if piece and size > PART_BYTES:
            yield piece
            piece, size = [], RUN_BYTES + len(run.frame or b"")
        piece.append(run)
    if piece:
        yield piece


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
    Of frames that many devices are sent each for itself not all are: some are told how far the log goes, and ask.
    """
    if not places:
        return []
    named = {row.device for row in rows if row.device}
    if not named:
        runs = runs_of(rows, log, "", now_ms)
        return [(gateway, sessions, runs) for gateway, sessions in by_gateway(places, dead).items()]
    by_device: defaultdict[str, Sessions] = defaultdict(dict)
    for session, place in places.items():
        by_device[place.device if place.device in named else ""][session] = place
    sent: list[tuple[str, list[str], list[Run]]] = []
    repeated = 0
    for device, its in sorted(by_device.items()):
        runs = runs_of(rows, log, device, now_ms)
        if device:
            repeated += _size(runs)
            if repeated > REPEATED_BYTES:
                runs = [Run(log=log, first=rows[-1].seq, last=rows[-1].seq, reason=GAP)]
        sent += [(gateway, sessions, runs) for gateway, sessions in by_gateway(its, dead).items()]
    return sent
