"""Handing out what the bus brings: who is sent what, in which order, and what a slow one costs the others."""

import asyncio
import json
from collections.abc import Iterable

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gateway.auth import Claims
from gateway.config import GatewayConfig
from gateway.dispatch import CHUNK
from gateway.hub import Hub
from gateway.passing import Way
from gateway.peer import Peer
from gateway.reading import HARD, SOFT
from schemas import bus
from schemas.bus import Delivery, Heard, HeardPart, LogOpening, Opening, Packed, Part, Run
from telemetry.gateway import GatewayMetrics
from tests.unit.gateway.wire import unframed

LOG = "inbox/normal"


class Transport:
    """A way out of `peer` that keeps what it is given; `stuck` bytes wait in it."""

    kind = "ws"
    slot = 0

    def __init__(self) -> None:
        self.way = Way(self.write, lambda: 0, -1)
        self.seqs: list[int] = []
        self.writes = 0
        self.stuck = 0
        self.choked = False
        self.aborted = False
        self.codes: list[int] = []
        self.peer: Peer | None = None

    def visit(self, now: float) -> float:
        return now + 60

    def send(self, frames: list[bytes]) -> int:
        self.writes += 1
        self.seqs += [seq for frame in frames if (seq := json.loads(frame).get("seq"))]
        return self.stuck

    def write(self, data: bytes) -> None:
        """Choke the session when it gets stuck, not again while it is: so does a real one."""
        self.send([unframed(data)])
        if self.stuck and not self.choked:
            assert self.peer is not None
            self.choked = True
            self.peer.session.choke(self.stuck)

    def close(self, code: int, reason: str) -> None:
        self.codes.append(code)

    def abort(self) -> None:
        self.aborted = True


class Office:
    """A hub with open sessions, one a user."""

    def __init__(self, users: int) -> None:
        config = GatewayConfig(id="g1", kafka={}, redis="", secret="s" * 32)
        self.registry = CollectorRegistry()
        self.hub = Hub(config, 1, GatewayMetrics(self.registry), lambda: 0.0, lambda: None)
        self.transports = [Transport() for _ in range(users)]
        self.peers: list[Peer] = []
        for number, transport in enumerate(self.transports):
            claims = Claims(f"u{number}", "phone", 60.0)
            transport.peer = self.hub.admit(transport, claims, hello=False, now=0.0)
            self.peers.append(transport.peer)
        self._numbered = 0
        self.take(openings=[Opening(peer.session.id, "e", [LogOpening(LOG, 0, 0, 0)]) for peer in self.peers])
        for transport in self.transports:
            transport.writes = 0

    def transport(self) -> Transport:
        """Return one more way out."""
        self.transports.append(Transport())
        return self.transports[-1]

    def take(self, *, openings: Iterable[Opening] = (), deliveries: Iterable[Delivery] = ()) -> None:
        self.hear(Part(0, 1, list(openings), list(deliveries)))

    def hear(self, part: Part | HeardPart) -> None:
        asyncio.run(self.hub.dispatch.take(self.heard(part)))

    def heard(self, part: Part | HeardPart) -> Heard:
        """Return a message as it arrives."""
        self._numbered += 1
        heard = bus.decode(bus.encode(Packed("w", self._numbered, [part])))  # type: ignore[list-item]  # alike, packed
        assert isinstance(heard, Heard)
        return heard

    def delivery(self, *seqs: int, users: Iterable[int] = (0,)) -> Delivery:
        return Delivery("u", [self.peers[user].session.id for user in users], [entry(seq) for seq in seqs])

    def value(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"log": LOG} if name == "tocsin_deliveries_total" else {}) or 0.0


def entry(seq: int) -> Run:
    frame = json.dumps({"type": "notification", "log": LOG, "seq": seq}).encode()
    return Run(LOG, seq, seq, 1, frame)


def test_an_entry_for_many_goes_to_each_in_one_write() -> None:
    office = Office(3)
    office.take(deliveries=[office.delivery(1, users=(0, 1, 2))])
    assert [(transport.seqs, transport.writes) for transport in office.transports] == [([1], 1)] * 3
    assert office.value("tocsin_deliveries_total") == 3


def test_more_than_a_chunk_of_sessions_are_all_sent_an_entry() -> None:
    office = Office(2 * CHUNK + 1)
    office.take(deliveries=[office.delivery(1, users=range(2 * CHUNK + 1))])
    assert all(transport.seqs == [1] for transport in office.transports)


@pytest.mark.parametrize(
    "packs",
    [
        pytest.param([[(1, 2)], [(3,)]], id="together, then alone"),
        pytest.param([[(1,), (2, 3)]], id="alone, then together"),
        pytest.param([[(1, 2), (3,)]], id="together, then alone in one message"),
        pytest.param([[(2,)], [(1,)], [(3,)]], id="the first comes late"),
        pytest.param([[(1,)], [(1,)], [(2,)], [(3,)], [(2,)]], id="some twice"),
    ],
)
def test_entries_leave_in_order_however_they_come(packs: list[list[tuple[int, ...]]]) -> None:
    office = Office(1)
    for pack in packs:
        office.take(deliveries=[office.delivery(*seqs) for seqs in pack])
    assert office.transports[0].seqs == [1, 2, 3]
    assert office.value("tocsin_deliveries_total") == 3


def test_many_deliveries_of_one_entry_each_are_all_sent() -> None:
    office = Office(2 * CHUNK + 1)
    office.take(deliveries=[office.delivery(1, users=(user,)) for user in range(2 * CHUNK + 1)])
    assert all((transport.seqs, transport.writes) == ([1], 1) for transport in office.transports)
    assert office.value("tocsin_deliveries_total") == 2 * CHUNK + 1


@pytest.mark.parametrize("seq", [1, 2], ids=["what passes", "what does not"])
def test_others_run_while_a_long_message_is_handed_out(seq: int) -> None:
    office = Office(4 * CHUNK)
    to_each = [office.delivery(seq, users=(user,)) for user in range(4 * CHUNK)]
    turns = 0

    async def watch() -> None:
        nonlocal turns
        taking = asyncio.create_task(office.hub.dispatch.take(office.heard(Part(0, 1, deliveries=to_each))))
        while not taking.done():
            turns += 1
            await asyncio.sleep(0)

    asyncio.run(watch())
    assert turns >= 4


@pytest.mark.parametrize("runs", ["no runs", [Run(LOG, 1, 2**63, reason="expired")], [Run(LOG, 1, 2**63, 1, b"{}")]])
def test_sessions_ask_anew_where_deliveries_cannot_be_read(runs: object, caplog: pytest.LogCaptureFixture) -> None:
    office = Office(1)
    deliveries = [["u", [office.peers[0].session.id], runs]]
    office.hear(HeardPart(0, 1, deliveries=msgspec.Raw(msgspec.msgpack.encode(deliveries))))
    assert "deliveries cannot be read" in caplog.text
    assert office.hub.dispatch.suspects == 1
    office.hub.dispatch.tick(1.0)
    assert office.hub.outbox.urgent == {0}


def test_an_entry_that_is_too_early_is_held_and_what_is_missing_asked_for() -> None:
    office = Office(1)
    office.take(deliveries=[office.delivery(2)])
    assert office.transports[0].seqs == []
    assert office.hub.outbox.urgent == {0}


def test_a_stuck_transport_is_sent_no_more_and_the_others_go_on() -> None:
    office = Office(2)
    office.transports[0].stuck = HARD
    for seq in (1, 2, 3):
        office.take(deliveries=[office.delivery(seq, users=(0, 1))])
    assert office.transports[0].seqs == [1]
    assert office.transports[1].seqs == [1, 2, 3]
    assert office.peers[0].session.out.filled == HARD


def test_how_much_waits_is_asked_after_every_entry_once_a_transport_is_stuck() -> None:
    office = Office(1)
    office.transports[0].stuck = SOFT
    office.take(deliveries=[office.delivery(1)])
    office.transports[0].stuck = HARD
    for seq in (2, 3, 4):
        office.take(deliveries=[office.delivery(seq)])
    assert office.transports[0].seqs == [1, 2]


def test_a_session_that_is_closing_is_sent_nothing() -> None:
    office = Office(1)
    office.peers[0].session.close(4103)
    office.take(deliveries=[office.delivery(1)])
    assert office.transports[0].seqs == []


def test_nothing_is_kept_of_what_a_session_read_that_has_left() -> None:
    office = Office(2)
    roster = office.hub.roster
    office.hub.gone(office.peers[0], 1000, 1.0)
    assert len(roster.logs[LOG]) == 1
    office.hub.gone(office.peers[1], 1000, 1.0)
    assert roster.logs == {}


def test_a_session_that_is_not_here_is_reported_once() -> None:
    office = Office(1)
    for seq in (1, 2):
        office.take(deliveries=[Delivery("stranger", ["g1-gone"], [entry(seq)])])
    records = office.hub.outbox.take(0, acks=False)
    assert sum(b"g1-gone" in value for _, value in records) == 1
    assert office.value("tocsin_unknown_sessions_total") == 2
