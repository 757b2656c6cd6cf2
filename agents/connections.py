"""The connections agent: registers sessions under the turnstile, and lets them be answered beside it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from agents.answering import Answering
from agents.answers import Asking, Requested
from agents.cursors import CursorWriter
from agents.fanout import Fanout
from agents.parts import Parts
from agents.registration import Registration
from schemas.errors import BadRecord
from schemas.logs import INBOX_LOGS
from schemas.records import Acks, Announce, Connected, Connection, Disconnected, Sync, sifted_connection
from streams.connections import Place
from streams.partitions import home_partition
from streams.producer import Emit
from streams.runner import Batch


class ConnectionsAgent:
    """Handles the batches of the topic `connections`; a user has at most `sessions` of them.

    Gateways of earlier versions write acknowledgements there, too.
    """

    def __init__(
        self, parts: Parts, answering: Answering, cursors: CursorWriter, *, partitions: int, sessions: int
    ) -> None:
        self._partitions = partitions
        self._sessions = sessions
        self._answering = answering
        self._cursors = cursors
        self._producer = parts.producer
        self._publisher = parts.publisher
        self._ownership = parts.ownership
        self._dead_letters = parts.dead_letters
        self._connections = parts.connections
        self._metrics = parts.metrics

    async def handle(self, batch: Batch) -> None:
        """Perform the effects of a batch: register, mark; answers follow beside the turnstile."""
        epochs = dict(await self._ownership.held())
        registration = Registration(self._connections, self._publisher, self._sessions)
        openings: list[Requested] = []
        syncs: list[Asking] = []
        held: list[Any] = []
        acked: list[Any] = []
        letters: list[Emit] = []
        for message in batch.messages:
            try:
                record = self._decoded(message, letters)
            except BadRecord as exc:
                letters.append(self._dead_letters.letter(message, exc.code, str(exc)))
                continue
            self._publisher.heard_of(record.gateway)
            wanted = self._register(message.partition, record, registration)
            if isinstance(wanted, Connected | Announce):
                openings.append((message.partition, wanted))
                held.append(message)
            elif isinstance(wanted, Acks):
                acked.append(message)
            elif isinstance(wanted, Sync):
                syncs += [Asking(message.partition, wanted.gateway, request) for request in wanted.syncs]
        await self._producer.emit(letters)
        await self._connections.write(self._producer, registration.changes())
        await self._refuse(registration, epochs)
        for asking in syncs:
            self._answering.ask(asking)
        if openings:
            batch.hold(held, lambda: self._answering.open(epochs, openings))
        if acked:
            batch.hold(acked, self._cursors.flushed)

    async def reject(self, message: Any, refusal: Exception) -> None:
        """Write the dead letter of a record that is refused."""
        letter = self._dead_letters.letter(message, "refused", str(refusal))
        await self._dead_letters.write(self._producer.emit, letter)

    def _decoded(self, message: Any, letters: list[Emit]) -> Connection:
        """Return a record without the items that are bad, which a dead letter names. Raises `BadRecord`."""
        found = sifted_connection(message.value)
        record, code = found.record, "bad_request"
        wrong = list(found.wrong)
        match record:
            case Connected(user=user) | Disconnected(user=user):
                if why := self._astray(message.partition, user):
                    raise BadRecord("key_mismatch", why)
            case Acks(acks=acks):
                wrong += self._cursors.add(acks)
            case Sync(syncs=items):
                record = msgspec.structs.replace(record, syncs=self._at_home(message.partition, items, wrong))
            case Announce(sessions=items):
                record = msgspec.structs.replace(record, sessions=self._at_home(message.partition, items, wrong))
        if wrong:
            self._metrics.bad_items.inc(len(wrong))
            code = "bad_request" if found.wrong or isinstance(record, Acks) else "key_mismatch"
            letters.append(self._dead_letters.letter(message, code, "; ".join(wrong)))
        return record

    def _at_home(self, partition: int, items: Sequence[Any], wrong: list[str]) -> list[Any]:
        kept = []
        for item in items:
            if why := self._astray(partition, item.user):
                wrong.append(why)
            else:
                kept.append(item)
        return kept

    def _astray(self, partition: int, user: str) -> str | None:
        """Say of what a gateway, which computes partitions itself, put in the wrong one: order would be lost."""
        if home_partition(user.encode(), self._partitions) == partition:
            return None
        return f"user {user!r} does not belong to partition {partition}"

    def _register(self, partition: int, record: Connection, registration: Registration) -> Connection | None:
        """Register what a record says; return what of it wants an answer, without the sessions that are refused."""
        gateway = record.gateway
        match record:
            case Connected(user=user, session=session, device=device):
                return record if registration.open(partition, user, session, Place(gateway, device)) else None
            case Sync(syncs=syncs):  # a gateway that was taken for dead comes back with sessions that were dropped
                taken = [
                    one
                    for one in syncs
                    if one.log in INBOX_LOGS
                    and registration.open(partition, one.user, one.session, Place(gateway, one.device))
                ]
                return msgspec.structs.replace(record, syncs=taken) if len(taken) < len(syncs) else record
            case Announce(sessions=sessions):
                opened = [
                    one
                    for one in sessions
                    if registration.open(partition, one.user, one.session, Place(gateway, one.device))
                ]
                return msgspec.structs.replace(record, sessions=opened) if len(opened) < len(sessions) else record
            case Acks():
                return record
            case Disconnected(user=user, session=session):
                registration.close(partition, user, session)
        return None

    async def _refuse(self, registration: Registration, epochs: dict[int, int]) -> None:
        """Let gateways end the sessions that their users have too many of; one that is not told asks again."""
        if not registration.refused:
            return
        self._metrics.sessions_refused.inc(len(registration.refused))
        fanout = Fanout(epochs)
        for partition, gateway, refusal in registration.refused:
            fanout.refuse(gateway, partition, refusal)
        await self._publisher.publish(fanout.parts())
