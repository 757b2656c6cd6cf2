import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from gateway import outbox as module
from gateway.outbox import Outbox, partition_of
from schemas import records
from schemas.limits import CONTROL_PACK
from schemas.records import Ack, Announce, Connected, Connection, Disconnected, OpenSession, Sync, SyncRequest


def outbox() -> Outbox:
    return Outbox("g", lambda: None)


def connected(session: str = "s1") -> Connected:
    return Connected(user="u1", session=session, gateway="g", device="d")


def request(session: str = "s1", after: int = 0) -> SyncRequest:
    return SyncRequest("u1", session, "d", "inbox/normal", after, 500)


def taken(box: Outbox, partition: int = 0) -> list[Connection]:
    return [records.decode_connection(value) for _, value in box.take(partition, acks=False)]


@pytest.mark.parametrize(("user", "partition"), [("user-1", 2), ("u1", 0), ("ключ", 0)])
def test_partitions_are_those_of_kafka_s_java_client(user: str, partition: int) -> None:
    assert partition_of(user, 4) == DefaultPartitioner()(user.encode(), [0, 1, 2, 3], [])


def test_a_session_s_records_keep_their_order() -> None:
    box = outbox()
    box.connected(0, connected())
    box.sync(0, request())
    assert box.urgent == {0}
    assert [type(record) for record in taken(box)] == [Connected, Sync]
    assert box.urgent == set()
    box.disconnected(0, "u1", "s1")
    assert taken(box) == [Disconnected(user="u1", session="s1", gateway="g")]
    assert box.waiting() == 0


def test_a_session_that_ended_before_it_was_said_leaves_nothing() -> None:
    box = outbox()
    box.connected(0, connected())
    box.sync(0, request())
    box.disconnected(0, "u1", "s1")
    assert taken(box) == []


def test_a_session_that_was_said_once_is_said_to_have_ended() -> None:
    box = outbox()
    box.connected(0, connected())
    taken(box)
    box.connected(0, connected())  # once more, for want of an answer
    box.disconnected(0, "u1", "s1")
    assert [type(record) for record in taken(box)] == [Disconnected]


def test_syncs_are_packed_and_the_latest_of_a_log_counts() -> None:
    box = outbox()
    for after in (1, 2):
        for session in ("s1", "s2"):
            box.sync(0, request(session, after))
    assert taken(box) == [Sync(gateway="g", syncs=[request("s1", 2), request("s2", 2)])]


def test_announcements_are_packed_and_the_latest_epoch_counts() -> None:
    box = outbox()
    sessions = [OpenSession(f"u{n}", f"s{n}", "d", "ws", {}) for n in range(module.PACK + 1)]
    box.announce(3, 1, sessions)
    box.announce(3, 2, sessions)
    found = taken(box, 3)
    assert [(type(one), len(one.sessions), one.epoch) for one in found if isinstance(one, Announce)] == [
        (Announce, module.PACK, 2),
        (Announce, 1, 2),
    ]
    assert box.take(3, acks=False) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_acks_merge_by_max(said: list[tuple[str, int, int]]) -> None:
    box = outbox()
    for device, delivered, read in said:
        box.acknowledge(0, Ack("u1", device, "inbox/normal", delivered, read))
    assert box.take(0, acks=False) == []
    ((_, value),) = box.take(0, acks=True)
    pack = records.decode_acks(value)
    assert {(ack.device, ack.delivered, ack.read) for ack in pack.acks} == {
        (device, max(d for one, d, _ in said if one == device), max(r for one, _, r in said if one == device))
        for device, _, _ in said
    }
    assert box.waiting() == 0


def test_acks_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACKS", 2)
    box = outbox()
    for device in ("a", "b", "c", "a"):
        box.acknowledge(0, Ack("u1", device, "inbox/normal", 1, 0))
    assert (box.waiting(), box.dropped_acks) == (2, 1)


def test_what_is_put_in_wakes_the_writer() -> None:
    woken: list[int] = []
    box = Outbox("g", lambda: woken.append(1))
    box.sync(0, request())
    box.acknowledge(0, Ack("u1", "d", "inbox/normal", 1, 0))
    assert len(woken) == 2


LONGEST = "\x01" * 253  # a character that JSON writes with six


@pytest.mark.parametrize("kind", ["acks", "syncs", "sessions"])
def test_packs_of_the_longest_ids_are_taken_by_workers_whole_and_in_order(kind: str) -> None:
    box = outbox()
    users = [f"{number:03}{LONGEST}" for number in range(900)]
    device, session = "d" * 64, "gateway-0-" + "5" * 40
    cursors = {f"inbox/{lane}": 2**53 - 1 for lane in ("critical", "normal", "bulk")}
    if kind == "acks":
        for user in users:
            box.acknowledge(0, Ack(user, device, "inbox/normal", 2**53 - 1, 2**53 - 1))
    elif kind == "syncs":
        for user in users:
            box.sync(0, SyncRequest(user, f"{session}{user[:3]}", device, "inbox/normal", 2**53 - 1, 500))
    else:
        box.announce(0, 1, [OpenSession(user, session, device, "ws", cursors) for user in users])
    written = box.take(0, acks=kind == "acks")
    assert max(len(value) for _, value in written) <= CONTROL_PACK
    packs = [getattr(records.decode_connection(value), kind) for _, value in written]
    assert [item.user for pack in packs for item in pack] == users
    assert [key for key, _ in written] == [pack[0].user.encode() for pack in packs]
