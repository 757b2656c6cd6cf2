"""One session or item that fails ends by itself: its neighbours of the same batch, message or turn go on."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gateway import codes, dispatch
from gateway.auth import Claims
from gateway.config import GatewayConfig
from gateway.desk import Desk
from gateway.hub import Hub
from gateway.outbox import Outbox, Record
from gateway.passing import Way
from gateway.websocket import WebSocket
from schemas import bus, records
from schemas.bus import Answer, Beat, Delivery, LogOpening, Opening, Part, Run
from schemas.limits import CONTROL_PACK
from schemas.records import Ack, Acks, Connected, OpenSession, Revocation, Sync, SyncRequest
from telemetry.gateway import GatewayMetrics
from tests.unit.gateway.test_dispatch import LOG, Office, entry
from tests.unit.gateway.test_websocket import Open, Transport, Unlisted

BAD = "\ud800"  # it is a `str`, and cannot be written to anything


def everything(outbox: Outbox) -> list[Record]:
    """Take what waits for partition 0 in both topics."""
    return [*outbox.take(0, acks=False), *outbox.take(0, acks=True)]


def broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("a fault of ours")


def fails(office: Office, user: int, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one session raise from now on."""
    monkeypatch.setattr(office.peers[user].session, method, broken)


def closed(office: Office) -> list[tuple[int, list[int]]]:
    """Return which sessions were closed and how; what each of the others was sent."""
    return [(user, office.transports[user].codes) for user in range(len(office.transports))]


def check(office: Office, caplog: pytest.LogCaptureFixture, *, failed: int = 1) -> None:
    """Only the session of user 1 has ended, with a log line and a metric."""
    assert [transport.codes for transport in office.transports] == [[], [codes.RESTART], []]
    assert office.peers[1].session.id not in office.hub.sessions
    assert len(office.hub.sessions) == 2
    assert office.value("tocsin_sessions_failed_total") == failed
    assert any(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)


@pytest.fixture
def office() -> Office:
    return Office(3)


Act = Callable[[Office], None]


def deliver_one_by_one(office: Office) -> None:
    office.take(deliveries=[office.delivery(seq, users=(0, 1, 2)) for seq in (1, 2)])


def deliver_together(office: Office) -> None:
    office.take(deliveries=[office.delivery(1, 2, users=(0, 1, 2))])


def answer(office: Office) -> None:
    runs = [entry(1), entry(2)]
    answers = [Answer(peer.session.id, LOG, 0, 2, runs) for peer in office.peers]
    office.hear(Part(0, 1, answers=answers))


def open_again(office: Office) -> None:
    office.take(openings=[Opening(peer.session.id, "e", [LogOpening(LOG, 0, 0, 0)]) for peer in office.peers])
    deliver_together(office)


def suspect_all(office: Office) -> None:
    office.hub.dispatch.suspect_all(1.0)
    deliver_together(office)


@pytest.mark.parametrize(
    ("method", "act"),
    [
        ("deliver", deliver_together),
        ("buffered", deliver_together),
        ("clear", deliver_together),
        ("answer", answer),
        ("open", open_again),
        ("suspect", suspect_all),
    ],
)
def test_of_what_the_bus_brings(
    method: str, act: Act, office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails(office, 1, method, monkeypatch)
    act(office)
    check(office, caplog)
    assert [office.transports[user].seqs for user in (0, 2)] == [[1, 2]] * 2
    office.take(deliveries=[office.delivery(3, users=(0, 1, 2))])  # and it goes on
    assert [office.transports[user].seqs for user in (0, 2)] == [[1, 2, 3]] * 2


@pytest.mark.parametrize("act", [deliver_one_by_one, deliver_together])
def test_of_the_sessions_that_an_entry_is_written_to(
    act: Act, office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peer, transport = office.peers[1], office.transports[1]
    transport.way = way = Way(broken, lambda: 0, -1)
    monkeypatch.setattr(transport, "send", lambda frames: way.send(b"".join(frames)))
    peer.session.clear(way)
    for reading in peer.session.readings.values():
        reading.way = way
    act(office)
    check(office, caplog)
    assert [office.transports[user].seqs for user in (0, 2)] == [[1, 2]] * 2


def test_of_the_sessions_that_a_new_owner_is_told_of(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails(office, 1, "cursors", monkeypatch)
    dispatcher = office.hub.dispatch
    dispatcher._follow(dispatcher.feed.take(Beat("w2", {0: 9}, {}), 1.0)[1], 1.0)
    check(office, caplog)
    taken = [records.decode_connection(value) for _, value in everything(office.hub.outbox)]
    (announced,) = [one for one in taken if isinstance(one, records.Announce)]
    assert {one.user for one in announced.sessions} == {"u0", "u2"}


@pytest.mark.parametrize("method", ["drain", "close"])
def test_of_the_sessions_that_are_sent_away(
    method: str, office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails(office, 1, method, monkeypatch)
    if method == "drain":
        for peer in office.peers:
            office.hub._send_away(peer, 100, 1.0)
        assert [t.codes for t in office.transports] == [[codes.DRAIN], [codes.RESTART], [codes.DRAIN]]
    else:
        Desk(office.hub, cast("Any", None)).revoke(Revocation(at=9e9, until=9.1e9, user="u1"))
        check(office, caplog)


def test_of_the_sessions_that_an_operator_looks_at(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[bytes] = []

    async def publish(channel: str, message: bytes) -> None:
        answers.append(message)

    for peer in office.peers:
        peer.session.user = "u1"
        office.hub.admission.users.hold("u1")  # as if it had been that one's from the beginning
    fails(office, 1, "cursors", monkeypatch)
    asyncio.run(Desk(office.hub, publish).take(bus.Inquiry("r", "u1")))
    check(office, caplog)
    assert len(bus.decode_found(answers[0]).sessions) == 2


@pytest.mark.parametrize("method", ["tick", "receive_all", "buffered"])
def test_of_what_a_transport_brings(
    method: str, office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails(office, 1, method, monkeypatch)
    for peer in office.peers:
        office.hub.tick(peer, 1.0)
        office.hub.receive(peer, b'{"type":"ping"}', 1.0)
        office.hub.buffered(peer, 0, 1.0)
    check(office, caplog)


def test_a_transport_that_cannot_even_be_closed_is_cut_off(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails(office, 1, "tick", monkeypatch)
    monkeypatch.setattr(office.transports[1], "close", broken)
    office.hub.tick(office.peers[1], 1.0)
    assert office.transports[1].aborted
    assert len(office.hub.sessions) == 2


def test_deliveries_that_cannot_be_handed_out_are_asked_for_anew(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatch, "pass_all", broken)
    office.take(deliveries=[office.delivery(1)])
    assert office.hub.dispatch.suspects == 3
    assert "ZeroDivisionError" in caplog.text


class TestOutbox:
    """A record that cannot be encoded is dropped alone."""

    def setup_method(self) -> None:
        self.dropped: list[str | None] = []
        self.box = Outbox("g", lambda: None, lambda session, exc: self.dropped.append(session))

    def taken(self) -> list[records.Connection]:
        return [records.decode_connection(value) for _, value in everything(self.box)]

    def test_of_sessions_that_open_and_end(self) -> None:
        for number, user in enumerate(("a", BAD, "b")):
            self.box.connected(0, Connected(user=user, session=f"s{number}", gateway="g", device="d"))
        assert [cast("Any", one).user for one in self.taken()] == ["a", "b"]
        assert self.dropped == ["s1"]

    def test_of_syncs(self) -> None:
        for number in range(1_200):
            user = BAD if number == 777 else f"u{number}"
            self.box.sync(0, SyncRequest(user, f"s{number}", "d", LOG, 0, 500))
        taken = self.taken()
        assert sum(len(one.syncs) for one in taken if isinstance(one, Sync)) == 1_199
        assert self.dropped == ["s777"]

    def test_of_acks(self) -> None:
        for number in range(1_200):
            self.box.acknowledge(0, Ack("u", BAD if number == 3 else f"d{number % 900}", LOG, 1, 0))
        assert sum(len(one.acks) for one in self.taken() if isinstance(one, Acks)) == 900
        assert self.dropped == [None]

    def test_of_announced_sessions(self) -> None:
        sessions = [OpenSession(BAD if n == 5 else f"u{n}", f"s{n}", "d", "ws", {}) for n in range(20)]
        self.box.announce(0, 1, sessions)
        assert sum(len(one.sessions) for one in self.taken() if isinstance(one, records.Announce)) == 19
        assert self.dropped == ["s5"]

    def test_records_of_many_items_fit_into_a_batch_of_kafka(self) -> None:
        sessions = [OpenSession("\1" * 256, f"s{n}", "d" * 64, "ws", {LOG: 2**53 - 1}) for n in range(1_000)]
        self.box.announce(0, 1, sessions)
        taken = self.box.take(0, acks=False)
        assert max(len(value) for _, value in taken) <= CONTROL_PACK
        decoded = [records.decode_connection(value) for _, value in taken]
        assert sum(len(cast("Any", one).sessions) for one in decoded) == 1_000

    def test_of_one_user_no_more_acks_wait_than_of_others(self) -> None:
        for number in range(5_000):
            self.box.acknowledge(0, Ack("flooder", f"d{number}", LOG, 1, 0))
        assert self.box.acknowledge(0, Ack("other", "d", LOG, 1, 0))
        assert (self.box.waiting(), self.box.dropped_acks) == (1_001, 4_000)


def test_a_session_whose_record_cannot_be_written_is_closed(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    everything(office.hub.outbox)
    for peer, device in zip(office.peers, ("d", BAD, "d"), strict=True):
        name = peer.session.id
        office.hub.outbox.connected(0, Connected(user=peer.session.user, session=name, gateway="g", device=device))
    assert len(everything(office.hub.outbox)) == 2
    check(office, caplog)


class TestSockets:
    """What asyncio calls ends one connection, and the hub's loop goes on."""

    @pytest.fixture(autouse=True)
    def _pair(self) -> Iterator[None]:
        self.pair = socket.socketpair()
        with self.pair[0], self.pair[1]:
            yield

    def connected(self) -> tuple[WebSocket, Transport, Hub]:
        here, self.there = self.pair
        transport = Transport(here)
        config = GatewayConfig(id="g", kafka={}, redis="", secret="s" * 32)
        hub = Hub(config, 1, GatewayMetrics(CollectorRegistry()), lambda: 1_000.0, lambda: None)
        one = WebSocket(hub, Open(), Unlisted())
        one.connection_made(cast("Any", transport))
        one._end_opening()
        one._peer = hub.admit(one, Claims("u", "phone", 60.0), hello=False, now=1_000.0)
        return one, transport, hub

    @pytest.mark.parametrize("event", ["data", "visit", "choke", "go_on"])
    def test_an_exception_is_the_end_of_one(
        self, event: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        one, transport, hub = self.connected()
        assert one._peer is not None
        if event == "visit":
            monkeypatch.setattr(one._peer.session, "tick", broken)
            hub.wheel.schedule(one, 1_000.0)
            hub.wheel.turn(1_002.0)
        elif event == "choke":
            monkeypatch.setattr(one._peer.session, "choke", broken)
            one.pause_writing()
        else:
            one._incoming = cast("Any", None)
            if event == "data":
                one.data_received(b"\x81\x80mask")
            else:
                one._read_on()
        assert hub.sessions == {}
        assert transport.written.find(codes.RESTART.to_bytes(2, "big")) >= 0 or self.there.recv(9_999)
        assert "failed and is closed" in caplog.text

    def test_a_request_that_we_fail_at_is_cut_off(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        one, transport, hub = self.connected()
        other = WebSocket(hub, Open(), Unlisted())
        other.connection_made(cast("Any", transport))
        other.data_received(b"GET /ws HTTP/1.1\r\n\r\n")  # `Open` judges nothing: it raises
        assert transport.aborted
        assert list(hub.sessions.values()) == [one._peer]

    def test_a_reason_of_any_length_fits_into_the_close(self) -> None:
        one, transport, _ = self.connected()
        one.close(codes.PROTOCOL, "ü" * 200)
        left = transport.written or self.there.recv(9_999)
        assert codes.PROTOCOL.to_bytes(2, "big") + "ü".encode() * 61 in left


def test_labels_of_metrics_are_few_whatever_clients_and_logs_are_called() -> None:
    office = Office(1)
    for number in range(3_000):
        office.hub.metrics.delivered(f"chat/{number}", 0, 1, 0.0)
        office.hub.metrics.delivered(f"{number}/x", 0, 1, 0.0)
        assert codes.label_of(3_000 + number % 2_000) in {"other", *map(str, codes.REASONS)}
    assert set(office.hub.metrics.deliveries.counts) == {
        "inbox/critical",
        "inbox/normal",
        "inbox/bulk",
        "chat",
        "other",
    }


def test_nothing_is_left_of_ten_thousand_sessions_and_streams_that_ended() -> None:
    office = Office(0)
    hub, now = office.hub, 0.0
    for number in range(10_000):
        now += 0.01
        hub.clock = lambda at=now: at  # type: ignore[misc]
        transport = office.transport()
        peer = hub.admit(transport, Claims(f"u{number}", f"d{number}", 60.0), hello=False, now=now)
        stream = f"w{number // 10}"  # a worker that starts again takes the partition under a higher epoch
        part = Part(0, 1 + number // 10, openings=[Opening(peer.session.id, "e", [LogOpening(LOG, 0, 0, 0)])])
        hub.dispatch.feed.take(cast("Any", heard(stream, number % 10 + 1, part)), now)
        peer.session.open(part.openings[0], now)
        hub.roster.reads(peer.session)
        hub.outbox.acknowledge(0, Ack(f"u{number}", f"d{number}", LOG, 1, 0))
        if number % 3 == 0:
            everything(hub.outbox)
        hub.gone(peer, 3_000 + number % 2_000, now)
        if number % 100 == 0:
            hub.dispatch.tick(now)
            hub._account(now)
    everything(hub.outbox)
    now += 120.0
    hub.dispatch.tick(now)
    hub.dispatch.tick(now)
    hub._account(now)
    hub.wheel.turn(now)
    box, roster = hub.outbox, hub.roster
    assert (len(box._told), box.waiting(), len(box.urgent | box.acked)) == (0, 0, 0)
    assert not any(len(kept) for kept in (box._news, box._syncs, box._acks, box._announced))
    assert not any(len(kept) for kept in (roster.sessions, roster.logs, roster._by_partition, roster._left))
    assert (len(hub.admission.users), len(hub.admission.hosts)) == (0, 0)
    assert len(hub.dispatch.feed._streams) <= 2
    assert len(hub.dispatch.feed._epochs) == 1
    assert len(hub.metrics.closed._metrics) <= 1 + len(codes.REASONS)
    assert len(hub._said) <= 9


def heard(stream: str, number: int, part: Part) -> bus.Message:
    return bus.decode(bus.encode(bus.Packed(stream, number, [part])))


def test_nothing_is_kept_of_a_partition_that_nobody_here_is_of() -> None:
    office = Office(1)
    for partition in range(1, 1_000):
        office.hear(Part(partition, 1, deliveries=[Delivery("u", [], [Run(LOG, 1, 1, 1, b"{}")])]))
        office.hub.dispatch.tick(60.0 * partition)
    assert len(office.hub.roster._by_partition) == 1


def test_a_beat_that_is_no_beat_is_not_the_end() -> None:
    with pytest.raises(msgspec.DecodeError):
        bus.decode(msgspec.msgpack.encode(["b", "w", {"x": 1}, {}]))


def test_frames_of_a_batch_after_the_one_that_ends_the_session_are_nothing() -> None:
    office = Office(1)
    say = [json.dumps({"type": "hello"}).encode(), b'{"type":"ping"}']
    office.hub.receive_all(office.peers[0], say, 1.0)
    assert office.transports[0].codes == [codes.PROTOCOL]
