"""Effects are gathered by gateway and partition, in their order, in parts that a message can be cut between."""

from hypothesis import given
from hypothesis import strategies as st

from agents.fanout import PART_BYTES, PART_DELIVERIES, REPEATED_BYTES, Fanout, sendings
from schemas import bus
from schemas.bus import Answer, Delivery, Opening, Part, Run
from schemas.limits import MAX_VALUE
from schemas.rows import Row
from streams.connections import Place, runs_of


def delivery(number: int) -> Delivery:
    return Delivery("ann", ["s"], [Run("inbox/normal", number, number)])


def answer(number: int) -> Answer:
    return Answer("s", "inbox/normal", number, number, [])


@given(
    st.lists(
        st.tuples(st.sampled_from(["g1", "g2"]), st.integers(0, 2), st.sampled_from(["delivery", "answer", "opening"])),
        max_size=30,
    )
)
def test_everything_arrives_where_it_belongs_in_order(items: list[tuple[str, int, str]]) -> None:
    fanout = Fanout({0: 10, 1: 11, 2: 12})
    for number, (gateway, partition, kind) in enumerate(items):
        if kind == "delivery":
            fanout.deliver(gateway, partition, delivery(number))
        elif kind == "answer":
            fanout.answer(gateway, partition, answer(number))
        else:
            fanout.open(gateway, partition, Opening(f"s{number}", "e", []))
    found = []
    for gateway, parts in fanout.parts().items():
        for part in parts:
            assert part.epoch == 10 + part.partition
            place = (gateway, part.partition)
            found += [(one.runs[0].first, *place, "delivery") for one in part.deliveries]
            found += [(one.after, *place, "answer") for one in part.answers]
            found += [(int(one.session[1:]), *place, "opening") for one in part.openings]
    assert sorted(found) == [(number, *item) for number, item in enumerate(items)]


def test_a_long_part_is_followed_by_another_one() -> None:
    fanout = Fanout({0: 1})
    for number in range(2 * PART_DELIVERIES + 1):
        fanout.deliver("g", 0, delivery(number))
    sizes = [len(part.deliveries) for part in fanout.parts()["g"]]
    assert sizes == [PART_DELIVERIES, PART_DELIVERIES, 1]
    numbers = [one.runs[0].first for part in fanout.parts()["g"] for one in part.deliveries]
    assert numbers == list(range(2 * PART_DELIVERIES + 1))


def test_parts_of_several_fanouts_share_nothing() -> None:
    first, second = Fanout({0: 1}), Fanout({0: 1})
    first.deliver("g", 0, delivery(1))
    second.open("g", 0, Opening("s", "e", []))
    assert first.parts()["g"][0].openings == []
    assert second.parts()["g"][0].deliveries == []


places = st.dictionaries(
    st.sampled_from("abcdef"), st.builds(Place, st.sampled_from(["g1", "g2", "g3"]), st.sampled_from(["phone", "web"]))
)
rows = st.lists(st.tuples(st.sampled_from(["", "phone", "web"]), st.sampled_from(["", "k"])), min_size=1, max_size=4)


@given(places, rows, st.sets(st.sampled_from(["g1", "g2"])))
def test_every_session_is_sent_what_its_device_sees(
    sessions: dict[str, Place], made: list[tuple[str, str]], dead: set[str]
) -> None:
    entries = [
        Row(seq, seq, seq, "", b"", 1, 0, device, b'{"id":"i","collapse_key":"%s"}' % key.encode())
        for seq, (device, key) in enumerate(made, 1)
    ]
    sent = sendings(sessions, dead, entries, "inbox/bulk", 5)
    got = {session: (gateway, runs) for gateway, names, runs in sent for session in names}
    assert got == {
        session: (place.gateway, runs_of(entries, "inbox/bulk", place.device, 5))
        for session, place in sessions.items()
        if place.gateway not in dead
    }
    assert sum(len(names) for _, names, _ in sent) == len(got)


def entry(seq: int, size: int, device: str = "") -> Row:
    return Row(seq, seq, seq, "", b"", 1, 0, device, b"x" * size)


def sent_to(sessions: dict[str, Place], entries: list[Row]) -> list[Part]:
    fanout = Fanout({0: 1})
    for gateway, names, runs in sendings(sessions, (), entries, "inbox/normal", 5):
        fanout.deliver(gateway, 0, Delivery("ann", names, runs))
    return fanout.parts()["g"]


def test_no_part_is_larger_than_its_bound_and_one_frame_and_nothing_is_left_out() -> None:
    sessions = {f"s{number}": Place("g", f"d{number}") for number in range(100)}
    entries = [entry(seq, MAX_VALUE) for seq in range(1, 101)]
    parts = sent_to(sessions, entries)
    assert max(len(bus.encode(part)) for part in parts) < PART_BYTES + MAX_VALUE + 1_000
    deliveries = [one for part in parts for one in part.deliveries]
    assert all(one.sessions == list(sessions) for one in deliveries)
    assert [run.first for one in deliveries for run in one.runs] == list(range(1, 101))


def test_answers_of_many_sessions_are_parts_of_their_own() -> None:
    fanout = Fanout({0: 1})
    for number in range(100):
        fanout.answer(
            "g", 0, Answer(f"s{number}", "inbox/normal", 0, 3, [Run("inbox/normal", 1, 1, 1, bytes(100_000))])
        )
    parts = fanout.parts()["g"]
    assert max(len(bus.encode(part)) for part in parts) < PART_BYTES + 1_000
    assert [one.session for part in parts for one in part.answers] == [f"s{number}" for number in range(100)]


def test_what_many_devices_see_each_for_itself_is_not_sent_a_hundred_times() -> None:
    sessions = {f"s{number}": Place("g", f"d{number}") for number in range(100)}
    entries = [entry(seq, MAX_VALUE) for seq in range(1, 61)]
    entries += [entry(100 + number, 10, f"d{number}") for number in range(90)]
    parts = sent_to(sessions, entries)
    once = sum(len(row.frame) for row in entries)
    assert sum(len(bus.encode(part)) for part in parts) < 2 * once + REPEATED_BYTES
    heads = {name: one.runs[-1].last for part in parts for one in part.deliveries for name in one.sessions}
    assert heads == dict.fromkeys(sessions, entries[-1].seq)  # whoever was not sent all knows how far to ask


def test_a_user_with_very_many_sessions_is_sent_to_in_several_parts() -> None:
    sessions = {f"session-{number:050}": Place("g", "d") for number in range(18_000)}
    parts = sent_to(sessions, [entry(1, 10)])
    assert max(len(bus.encode(part)) for part in parts) < PART_BYTES
    assert [name for part in parts for one in part.deliveries for name in one.sessions] == list(sessions)
