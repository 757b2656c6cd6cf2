"""Entries that pass, in Python and in C: to whom, in which order, and where the socket does not take all."""

import gc
import shutil
import socket
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import passing, passing_pure
from gateway.framing import framed
from schemas import bus
from schemas.bus import Delivery, Run

try:
    from gateway import _passing  # type: ignore[attr-defined]  # it is in C, and only where it was built
except ImportError:
    _passing = None

FORMS = [passing_pure, *filter(None, [_passing])]


class Transport:
    """Keeps what it is given and says that it holds so many bytes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.holds = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def waiting(self) -> int:
        return self.holds


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__.rpartition(".")[2])
def form(request: pytest.FixtureRequest) -> Any:
    return request.param


def at(form: Any, following: int, way: Any) -> Any:
    position = type("Reading", (form.Position,), {"__slots__": ()})()
    position.expected, position.head, position.sent = following, following - 1, following - 1
    position.next, position.way = following, way
    return position


def readers_of(form: Any, positions: Mapping[str, Any]) -> Any:
    readers = form.Readers()
    for session, position in positions.items():
        readers.enter(session, position)
    return readers


LOG = "inbox/normal"
X = framed(b"x")


def told(*deliveries: Delivery) -> bytes:
    return bus.encode(list(deliveries))


def pass_all(
    form: Any, parts: Sequence[Any], logs: Mapping[str, Any], *, decode: Any = bus.decode_deliveries, most: int = 1000
) -> tuple[list[tuple[Delivery, list[str] | None]], Counter[tuple[str, int]]]:
    """Return what was left, and how many sessions were sent entries by log and time, of all turns together."""
    left: list[tuple[Delivery, list[str] | None]] = []
    counted: Counter[tuple[str, int]] = Counter()
    for others, passed in form.pass_all(parts, logs, decode, most):
        left += others
        for log, ts, sessions in passed:
            counted[log, ts] += sessions
    return left, counted


def left_of(form: Any, readers: Any, sessions: list[str], seq: int) -> list[str]:
    """Return the sessions that one entry did not pass."""
    packed = told(Delivery("u", sessions, [Run(LOG, seq, seq, 5, b"x")]))
    return [session for _, left in pass_all(form, [packed], {LOG: readers})[0] for session in left or ()]


def test_an_entry_goes_to_those_who_wait_for_just_this_one(form: Any) -> None:
    transports = {name: Transport() for name in "abc"}
    ways = {name: form.Way(one.write, one.waiting, -1) for name, one in transports.items()}
    positions = {"a": at(form, 7, ways["a"]), "b": at(form, 6, ways["b"]), "c": at(form, 7, ways["c"])}
    assert left_of(form, readers_of(form, positions), ["a", "b", "nobody", "c"], 7) == ["b", "nobody"]
    assert [one.written for one in transports.values()] == [[X], [], [X]]
    a, b = positions["a"], positions["b"]
    assert (a.expected, a.head, a.sent, a.next) == (8, 7, 7, 8)
    assert (b.expected, b.head, b.sent, b.next) == (6, 5, 5, 6)


def test_nothing_passes_a_position_that_is_not_clear(form: Any) -> None:
    position = at(form, 1, form.Way(Transport().write, Transport().waiting, -1))
    position.next = 0
    readers = readers_of(form, {"s": position})
    assert left_of(form, readers, ["s"], 0) == ["s"]
    position.next, position.way = 1, None
    assert left_of(form, readers, ["s"], 1) == ["s"]


def test_what_ends_the_passing_from_within_a_write_ends_it(form: Any) -> None:
    position: Any = None

    def choke(_data: bytes) -> None:
        position.next = 0
        position.way = None

    position = at(form, 1, form.Way(choke, lambda: 0, -1))
    assert left_of(form, readers_of(form, {"s": position}), ["s", "s"], 1) == ["s"]
    assert position.next == 0


def broken(_data: bytes) -> None:
    raise OSError("broken")


def test_a_session_whose_way_fails_is_left_and_the_others_are_sent_the_entry(form: Any) -> None:
    here = Here(form, a=1, b=1)
    here.positions["a"].way = way = form.Way(broken, lambda: 0, -1)
    to_both = Delivery("u", ["a", "b"], [entry(1)])
    assert here.pass_all(to_both) == ([(to_both, ["a"])], {(LOG, 5): 1})
    assert here.written()["b"] == [framed(b"xxx")]
    a = here.positions["a"]
    assert (a.next, a.expected, a.head, a.sent) == (0, 1, 0, 0)  # it was not sent anything
    for _ in range(2):  # half of a message may have gone: nothing goes this way any more
        with pytest.raises(OSError, match="broken"):
            way.send(b"x")


@pytest.mark.parametrize("form", FORMS)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=300))
def test_who_was_entered_and_not_struck_out_is_found(form: Any, steps: list[tuple[bool, int]]) -> None:
    readers, entered = form.Readers(), dict[str, Any]()
    for enters, number in steps:
        name = f"gateway-1-{number}" * (1 + number % 3)
        if enters:
            entered[name] = at(form, 1, form.Way(Transport().write, lambda: 0, -1))
            readers.enter(name, entered[name])
        else:
            entered.pop(name, None)
            readers.strike(name)
    names = [f"gateway-1-{number}" * (1 + number % 3) for number in range(61)]
    assert len(readers) == len(entered)
    assert left_of(form, readers, names, 1) == [name for name in names if name not in entered]
    assert all(position.next == 2 for position in entered.values())


def entry(seq: int, *, log: str = LOG, ts: int = 5, size: int = 3) -> Run:
    return Run(log, seq, seq, ts, b"x" * size)


class Here:
    """Sessions that read a log and keep what they are written."""

    def __init__(self, form: Any, **following: int) -> None:
        self.form = form
        self.transports = {name: Transport() for name in following}
        ways = {name: form.Way(one.write, one.waiting, -1) for name, one in self.transports.items()}
        self.positions = {name: at(form, seq, ways[name]) for name, seq in following.items()}
        self.logs = {LOG: readers_of(form, self.positions)}

    def pass_all(
        self, *deliveries: Delivery, most: int = 1000
    ) -> tuple[list[tuple[Delivery, list[str] | None]], Counter[tuple[str, int]]]:
        return pass_all(self.form, [told(*deliveries)], self.logs, most=most)

    def written(self) -> dict[str, list[bytes]]:
        return {name: one.written for name, one in self.transports.items()}


def test_packed_entries_go_to_those_who_wait_for_them_and_the_others_are_named(form: Any) -> None:
    here = Here(form, a=1, b=1, c=2)
    both, early = Delivery("u", ["a", "b", "gone"], [entry(1)]), Delivery("v", ["c"], [entry(3, ts=6)])
    others, passed = here.pass_all(both, early, Delivery("u", ["a"], [entry(2, ts=6)]))
    assert others == [(both, ["gone"]), (early, ["c"])]
    assert passed == {(LOG, 5): 2, (LOG, 6): 1}
    assert here.written() == {"a": [framed(b"xxx")] * 2, "b": [framed(b"xxx")], "c": []}
    assert (here.positions["a"].next, here.positions["c"].next) == (3, 2)


def test_parts_are_gone_through_one_after_the_other(form: Any) -> None:
    here = Here(form, a=1, b=1)
    late, parts = Delivery("u", ["b"], [entry(3)]), [Delivery("u", ["a"], [entry(1)]), Delivery("u", ["a"], [entry(2)])]
    packed = [told(parts[0]), b"\x90", told(late, parts[1])]
    assert pass_all(form, packed, here.logs)[0] == [(late, ["b"])]
    assert here.written() == {"a": [framed(b"xxx")] * 2, "b": []}


def test_what_is_not_one_entry_is_left_whole_and_in_order(form: Any) -> None:
    here = Here(form, a=1)
    deliveries = [
        Delivery("u", ["a"], [Run(LOG, 1, 1, reason="expired")]),
        Delivery("u", ["a"], [entry(1), entry(2)]),
        Delivery("u", ["a"], []),
        Delivery("u", ["a"], [entry(1, log="inbox/bulk")]),
        Delivery("u", [], [Run(LOG, 1, 1, reason="expired")]),
    ]
    assert here.pass_all(*deliveries) == ([(delivery, None) for delivery in deliveries], {})
    assert here.pass_all(Delivery("u", [], [entry(1)])) == ([], {})
    assert here.written() == {"a": []}


@pytest.mark.parametrize("most", [1, 10, 64, 1000])
def test_a_turn_is_over_when_so_many_sessions_were_served(form: Any, most: int) -> None:
    names = [f"s{number}" for number in range(200)]
    here = Here(form, **dict.fromkeys(names, 1))
    some = [Delivery("u", [name], [entry(2)]) for name in names[:40]]
    packed = [told(Delivery("u", [*names, "gone"], [entry(1)]), *some), told(Delivery("u", ["gone"], [entry(1)]))]
    sizes = [
        sum(row[2] for row in passed) + sum(len(left or ()) for _, left in others)
        for others, passed in form.pass_all(packed, here.logs, bus.decode_deliveries, most)
    ]
    assert sum(sizes) == 242
    assert max(sizes) <= most + 32
    assert len(sizes) >= 242 // (most + 32)
    assert all(len(written) in (1, 2) for written in here.written().values())


def test_a_delivery_that_begins_in_the_middle_goes_to_all_of_its_sessions(form: Any) -> None:
    names = [f"s{number}" for number in range(100)]
    here = Here(form, **dict.fromkeys(names, 1), before=1)
    assert here.pass_all(Delivery("u", ["before"], [entry(1)]), Delivery("u", names, [entry(1)]))[0] == []
    assert all(len(written) == 1 for written in here.written().values())


def test_a_seq_that_nobody_could_hold_passes_nobody(form: Any) -> None:
    here = Here(form, a=1)
    for last in (2**53, 2**63 - 1):
        with pytest.raises(msgspec.DecodeError):
            here.pass_all(Delivery("u", ["a"], [Run(LOG, 1, last, 5, b"x")]))
    assert (here.written(), here.positions["a"].next) == ({"a": []}, 1)


def test_sessions_of_one_delivery_that_are_left_are_named_together(form: Any) -> None:
    names = [f"s{number}" for number in range(100)]
    here = Here(form, **{name: 1 + number % 2 for number, name in enumerate(names)})
    to_all = Delivery("u", names, [entry(1)])
    assert here.pass_all(to_all, most=10) == ([(to_all, names[1::2])], {(LOG, 5): 50})


def test_a_turn_for_nobody_is_refused(form: Any) -> None:
    for most in (0, -1):
        with pytest.raises(ValueError, match="one session at the least"):
            list(form.pass_all([], {}, bus.decode_deliveries, most))


def test_a_turn_cannot_be_taken_from_within_another(form: Any) -> None:
    turns: Any = None

    def again(_data: bytes) -> None:
        next(turns)

    readers_way = form.Way(again, lambda: 0, -1)
    readers = readers_of(form, {"a": at(form, 1, readers_way)})
    turns = form.pass_all([told(Delivery("u", ["a", "b"], [entry(1)]))], {LOG: readers}, bus.decode_deliveries, 9)
    (others, passed) = next(turns)
    assert ([left for _, left in others], passed) == ([["a", "b"]], [])
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own words for a generator, ours in C
        readers_way.send(b"x")


def test_parts_may_go_while_they_are_gone_through(form: Any) -> None:
    parts: list[bytes] = []
    written: list[bytes] = []

    def write(data: bytes) -> None:
        written.append(data)
        parts.clear()

    readers = readers_of(form, {name: at(form, 1, form.Way(write, lambda: 0, -1)) for name in "ab"})
    parts += [told(Delivery("u", ["a"], [entry(1)]), Delivery("u", ["b"], [entry(1)]))]
    assert pass_all(form, parts, {LOG: readers}) == ([], {(LOG, 5): 2})
    assert written == [framed(b"xxx")] * 2


def test_turns_that_are_not_all_taken_leave_nothing_behind(form: Any) -> None:
    names = [f"s{number}" for number in range(100)]
    here = Here(form, **dict.fromkeys(names, 1))
    turns = iter(form.pass_all([told(Delivery("u", names, [entry(1)]))], here.logs, bus.decode_deliveries, 1))
    next(turns)
    del turns
    assert 0 < sum(map(len, here.written().values())) < 100


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_packed_entries_of_any_size_are_framed_as_elsewhere(form: Any, size: int) -> None:
    here = Here(form, a=1)
    here.pass_all(Delivery("u", ["a"], [entry(1, size=size)]), Delivery("u", ["a"], [entry(2, size=1)]))
    assert here.written() == {"a": [framed(b"x" * size), framed(b"x")]}


def test_fields_that_later_versions_add_are_passed_over(form: Any) -> None:
    here = Here(form, a=1, b=1)
    run = [LOG, 1, 1, 5, b"x", "", {"later": [1, -2.5, None]}]
    packed = msgspec.msgpack.encode([["u", ["a"], [run], 2**63], ["u", ["b"], [run]]])
    assert pass_all(here.form, [packed], here.logs)[0] == []
    assert here.written() == {"a": [framed(b"x")], "b": [framed(b"x")]}


def test_deliveries_that_are_none_or_cut_off_are_refused(form: Any) -> None:
    packed = told(Delivery("u", ["a"], [entry(1)]), Delivery("u", ["a"], [Run(LOG, 2, 2, reason="expired")]))
    wrong = (packed[:-1], b"", b"\x01", b"\xdd\xff\xff\xff\xff", msgspec.msgpack.encode([["u", ["a"], 5]]))
    for refused in (*wrong, packed.replace(b"\xa1a", b"\xa1\xff"), packed.replace(LOG.encode(), b"\xff" * len(LOG))):
        with pytest.raises(msgspec.DecodeError):
            pass_all(form, [refused], Here(form, a=1).logs)


_seqs = st.integers(0, 4) | st.sampled_from([2**53 - 1, 2**53, 2**63 - 1, 2**64 - 1])
_runs = st.builds(
    Run,
    log=st.sampled_from([LOG, "inbox/bulk", "ümlaut"]),
    first=_seqs,
    last=_seqs,
    ts=st.sampled_from([0, 1, 2**40]),
    frame=st.none() | st.binary(max_size=3) | st.just(b"x" * 200),
    reason=st.sampled_from(["", "expired"]),
)
_sessions = st.lists(st.sampled_from(["a", "b", "ü", "gone"]), max_size=9)
_deliveries = st.lists(st.builds(Delivery, st.just("u"), _sessions, st.lists(_runs, max_size=2)), max_size=80)


@pytest.mark.skipif(_passing is None, reason="without a compiler there is nothing to compare with")
@given(_deliveries, st.dictionaries(st.sampled_from(["a", "b", "ü"]), st.integers(0, 3)), st.integers(1, 100))
def test_both_forms_do_the_same_with_any_deliveries(
    deliveries: list[Delivery], following: dict[str, int], most: int
) -> None:
    pure, native = (Here(form, **following) for form in (passing_pure, _passing))
    try:
        expected = pure.pass_all(*deliveries, most=most)
    except msgspec.DecodeError:
        with pytest.raises(msgspec.DecodeError):
            native.pass_all(*deliveries, most=most)
        return
    assert native.pass_all(*deliveries, most=most) == expected
    assert pure.written() == native.written()
    for name, position in pure.positions.items():
        other = native.positions[name]
        assert (position.next, position.sent, position.head) == (other.next, other.sent, other.head)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        yield here, there


@pytest.mark.skipif(_passing is None, reason="without a compiler there is nothing that goes past the transport")
class TestInC:
    def test_bytes_go_to_the_socket_while_the_transport_holds_none(self, pair: Any) -> None:
        (here, there), transport = pair, Transport()
        way = _passing.Way(transport.write, transport.waiting, here.fileno())
        transport.holds = 1
        way.send(b"one")
        way.send(b"two")
        assert transport.written == [b"one", b"two"]
        transport.holds = 0  # the network has taken them
        way.send(b"three")
        assert (there.recv(100), transport.written) == (b"three", [b"one", b"two"])

    def test_a_transport_that_was_given_nothing_is_not_asked_again(self, pair: Any) -> None:
        (here, there), asked = pair, 0

        def waiting() -> int:
            nonlocal asked
            asked += 1
            return 0

        way = _passing.Way(Transport().write, waiting, here.fileno())
        for data in (b"one", b"two", b"three"):
            way.send(data)
        assert (there.recv(100), asked) == (b"onetwothree", 1)

    def test_nothing_goes_to_the_socket_once_it_is_closed(self, pair: Any) -> None:
        (here, there), transport = pair, Transport()
        way = _passing.Way(transport.write, transport.waiting, here.fileno())
        way.send(b"one")
        way.shut()  # the number of the socket may be another's from here on
        way.send(b"two")
        assert (there.recv(100), transport.written) == (b"one", [b"two"])

    def test_more_sessions_than_are_looked_up_at_once_get_it_each_once(self, pair: Any) -> None:
        here, there = pair
        names = [f"s{number}" for number in range(100)]
        way = _passing.Way(Transport().write, Transport().waiting, here.fileno())
        positions = {name: at(_passing, 1, way) for name in names if name != "s50"}
        assert left_of(_passing, readers_of(_passing, positions), names, 1) == ["s50"]
        assert there.recv(1000) == X * 99

    def test_what_the_socket_does_not_take_goes_to_the_transport(self, pair: Any) -> None:
        (here, there), transport = pair, Transport()
        way = _passing.Way(transport.write, transport.waiting, here.fileno())
        data = bytes(range(256)) * 8192
        way.send(data)
        way.send(b"end")  # a socket that is full takes nothing
        taken = b""
        while len(taken) < len(data) - len(transport.written[0]):
            taken += there.recv(1 << 20)
        assert taken
        assert (taken + transport.written[0], transport.written[1:]) == (data, [b"end"])

    def test_nothing_overtakes_what_a_transport_was_left_with(self, pair: Any) -> None:
        (here, there), transport = pair, Transport()
        way = _passing.Way(transport.write, transport.waiting, here.fileno())
        way.send(bytes(range(256)) * 8192)
        transport.holds = len(transport.written[0])
        there.recv(1 << 20)  # there is room in the socket again
        way.send(b"end")
        assert transport.written[1:] == [b"end"]

    def test_a_connection_that_is_gone_is_the_transports_to_notice(self, pair: Any) -> None:
        (here, there), transport = pair, Transport()
        there.close()
        _passing.Way(transport.write, transport.waiting, here.fileno()).send(b"x")
        assert transport.written == [b"x"]

    def test_a_transport_that_cannot_say_what_it_holds_is_an_error(self, pair: Any) -> None:
        way = _passing.Way(Transport().write, lambda: 1 // 0, pair[0].fileno())
        with pytest.raises(ZeroDivisionError):
            way.send(b"x")

    def test_other_things_than_bytes_and_positions_are_refused(self) -> None:
        with pytest.raises(TypeError):
            _passing.Way(Transport().write, Transport().waiting, -1).send(bytearray(b"x"))
        with pytest.raises(TypeError):
            _passing.Readers().enter("s", SimpleNamespace(next=1))
        packed = told(Delivery("u", ["s"], [entry(1)]))
        with pytest.raises(TypeError, match="Readers, not dict"):
            pass_all(_passing, [packed], {LOG: {}})
        with pytest.raises(TypeError):
            pass_all(_passing, ["text"], {})
        with pytest.raises(TypeError, match="as many deliveries"):
            pass_all(_passing, [packed], {}, decode=lambda _packed: [])

    def test_a_way_that_was_made_without_its_arguments_is_refused(self) -> None:
        with pytest.raises(TypeError, match="nowhere"):
            _passing.Way.__new__(_passing.Way).send(b"x")

    def test_nothing_leaks(self) -> None:
        before = passing_count(_passing)
        for _ in range(100):
            position = at(_passing, 1, _passing.Way(Transport().write, Transport().waiting, -1))
            left_of(_passing, readers_of(_passing, {"s": position}), ["s", "t"], 1)
            here = Here(_passing, a=1, b=1)
            here.pass_all(*(Delivery("u", ["a", "b", "gone"], [entry(seq)]) for seq in range(1, 50)))
            with pytest.raises(msgspec.DecodeError):
                pass_all(_passing, [b"\x92\x01"], here.logs)
        del position, here
        assert passing_count(_passing) == before


def passing_count(form: ModuleType) -> int:
    """Return how many of a form's objects there are, after a look for garbage."""
    gc.collect()
    # By `type`, not `isinstance`, which would ask a weak proxy of another test for the class of what is gone.
    return sum(issubclass(type(one), form.Way | form.Position | form.Readers) for one in gc.get_objects())


def test_it_is_in_c_where_it_can_be_built() -> None:
    switched_off = sys.modules.get("gateway._passing", passing) is None  # tests.without_native
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if shutil.which("cc") and header.exists() and not switched_off:
        assert passing.LANGUAGE == "C"
    else:
        assert passing.LANGUAGE == "Python" or not switched_off
