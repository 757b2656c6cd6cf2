"""Entries that pass, in Python and in C: to whom, in which order, and where the socket does not take all."""

import gc
import shutil
import socket
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping
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


def test_an_entry_goes_to_those_who_wait_for_just_this_one(form: Any) -> None:
    transports = {name: Transport() for name in "abc"}
    ways = {name: form.Way(one.write, one.waiting, -1) for name, one in transports.items()}
    positions = {"a": at(form, 7, ways["a"]), "b": at(form, 6, ways["b"]), "c": at(form, 7, ways["c"])}
    assert form.pass_on(readers_of(form, positions), ["a", "b", "nobody", "c"], 7, 7, b"x") == ["b", "nobody"]
    assert [one.written for one in transports.values()] == [[b"x"], [], [b"x"]]
    a, b = positions["a"], positions["b"]
    assert (a.expected, a.head, a.sent, a.next) == (8, 7, 7, 8)
    assert (b.expected, b.head, b.sent, b.next) == (6, 5, 5, 6)


def test_nothing_passes_a_position_that_is_not_clear(form: Any) -> None:
    position = at(form, 1, form.Way(Transport().write, Transport().waiting, -1))
    position.next = 0
    readers = readers_of(form, {"s": position})
    assert form.pass_on(readers, ["s"], 0, 0, b"x") == ["s"]
    position.next, position.way = 1, None
    assert form.pass_on(readers, ["s"], 1, 1, b"x") == ["s"]


def test_what_ends_the_passing_from_within_a_write_ends_it(form: Any) -> None:
    position: Any = None

    def choke(_data: bytes) -> None:
        position.next = 0
        position.way = None

    position = at(form, 1, form.Way(choke, lambda: 0, -1))
    assert form.pass_on(readers_of(form, {"s": position}), ["s", "s"], 1, 1, b"x") == ["s"]
    assert position.next == 0


def test_an_error_of_the_transport_is_not_swallowed(form: Any) -> None:
    def broken(_data: bytes) -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        form.pass_on(readers_of(form, {"s": at(form, 1, form.Way(broken, lambda: 0, -1))}), ["s"], 1, 1, b"x")


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
    assert form.pass_on(readers, names, 1, 1, b"x") == [name for name in names if name not in entered]
    assert all(position.next == 2 for position in entered.values())


LOG = "inbox/normal"


def told(*deliveries: Delivery) -> bytes:
    return bus.encode(list(deliveries))


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
        self, *deliveries: Delivery
    ) -> tuple[list[tuple[Delivery, list[str] | None]], Counter[tuple[str, int]]]:
        others, passed = self.form.pass_all([told(*deliveries)], self.logs, bus.decode_deliveries)
        counted: Counter[tuple[str, int]] = Counter()
        for log, ts, sessions in passed:
            counted[log, ts] += sessions
        return others, counted

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
    assert form.pass_all(packed, here.logs, bus.decode_deliveries)[0] == [(late, ["b"])]
    assert here.written() == {"a": [framed(b"xxx")] * 2, "b": []}


def test_what_is_not_one_entry_for_few_sessions_is_left_whole_and_in_order(form: Any) -> None:
    here = Here(form, a=1)
    deliveries = [
        Delivery("u", ["a"], [Run(LOG, 1, 1, reason="expired")]),
        Delivery("u", ["a"], [entry(1), entry(2)]),
        Delivery("u", ["a"], []),
        Delivery("u", ["a"], [entry(1, log="inbox/bulk")]),
        Delivery("u", ["a"] * (passing_pure.MOST + 1), [entry(1)]),
        Delivery("u", [], [Run(LOG, 1, 1, reason="expired")]),
    ]
    assert here.pass_all(*deliveries) == ([(delivery, None) for delivery in deliveries], {})
    assert here.pass_all(Delivery("u", [], [entry(1)])) == ([], {})
    assert here.written() == {"a": []}


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_packed_entries_of_any_size_are_framed_as_elsewhere(form: Any, size: int) -> None:
    here = Here(form, a=1)
    here.pass_all(Delivery("u", ["a"], [entry(1, size=size)]), Delivery("u", ["a"], [entry(2, size=1)]))
    assert here.written() == {"a": [framed(b"x" * size), framed(b"x")]}


def test_fields_that_later_versions_add_are_passed_over(form: Any) -> None:
    here = Here(form, a=1, b=1)
    run = [LOG, 1, 1, 5, b"x", "", {"later": [1, -2.5, None]}]
    packed = msgspec.msgpack.encode([["u", ["a"], [run], 2**63], ["u", ["b"], [run]]])
    assert here.form.pass_all([packed], here.logs, bus.decode_deliveries)[0] == []
    assert here.written() == {"a": [framed(b"x")], "b": [framed(b"x")]}


def test_deliveries_that_are_none_or_cut_off_are_refused(form: Any) -> None:
    packed = told(Delivery("u", ["a"], [entry(1)]), Delivery("u", ["a"], [Run(LOG, 2, 2, reason="expired")]))
    wrong = (packed[:-1], b"", b"\x01", b"\xdd\xff\xff\xff\xff", msgspec.msgpack.encode([["u", ["a"], 5]]))
    for refused in (*wrong, packed.replace(b"\xa1a", b"\xa1\xff"), packed.replace(LOG.encode(), b"\xff" * len(LOG))):
        with pytest.raises(msgspec.DecodeError):
            form.pass_all([refused], Here(form, a=1).logs, bus.decode_deliveries)


def test_an_error_in_the_middle_of_deliveries_is_not_swallowed(form: Any) -> None:
    def broken(_data: bytes) -> None:
        raise OSError("broken")

    readers = readers_of(form, {"a": at(form, 1, form.Way(broken, lambda: 0, -1))})
    with pytest.raises(OSError, match="broken"):
        form.pass_all([told(Delivery("u", ["a"], [entry(1)]))], {LOG: readers}, bus.decode_deliveries)


_runs = st.builds(
    Run,
    log=st.sampled_from([LOG, "inbox/bulk", "ümlaut"]),
    first=st.integers(0, 4),
    last=st.integers(0, 4),
    ts=st.sampled_from([0, 1, 2**40]),
    frame=st.none() | st.binary(max_size=3) | st.just(b"x" * 200),
    reason=st.sampled_from(["", "expired"]),
)
_sessions = st.lists(st.sampled_from(["a", "b", "ü", "gone"]), max_size=passing_pure.MOST + 1)
_deliveries = st.lists(st.builds(Delivery, st.just("u"), _sessions, st.lists(_runs, max_size=2)), max_size=80)


@pytest.mark.skipif(_passing is None, reason="without a compiler there is nothing to compare with")
@given(_deliveries, st.dictionaries(st.sampled_from(["a", "b", "ü"]), st.integers(0, 3)))
def test_both_forms_do_the_same_with_any_deliveries(deliveries: list[Delivery], following: dict[str, int]) -> None:
    pure, native = (Here(form, **following) for form in (passing_pure, _passing))
    assert pure.pass_all(*deliveries) == native.pass_all(*deliveries)
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
        assert _passing.pass_on(readers_of(_passing, positions), names, 1, 1, b"x") == ["s50"]
        assert there.recv(1000) == b"x" * 99

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
        with pytest.raises(TypeError):
            _passing.pass_on({}, ["s"], 1, 1, b"x")
        with pytest.raises(TypeError):
            _passing.pass_on(_passing.Readers(), [b"s"], 1, 1, b"x")
        packed = told(Delivery("u", ["s"], [entry(1)]))
        with pytest.raises(TypeError, match="Readers, not dict"):
            _passing.pass_all([packed], {LOG: {}}, bus.decode_deliveries)
        with pytest.raises(TypeError):
            _passing.pass_all(["text"], {}, bus.decode_deliveries)
        with pytest.raises(TypeError, match="a list of deliveries"):
            _passing.pass_all([packed], {}, lambda _packed: [])

    def test_a_way_that_was_made_without_its_arguments_is_refused(self) -> None:
        with pytest.raises(TypeError, match="nowhere"):
            _passing.Way.__new__(_passing.Way).send(b"x")

    def test_nothing_leaks(self) -> None:
        before = passing_count(_passing)
        for _ in range(100):
            position = at(_passing, 1, _passing.Way(Transport().write, Transport().waiting, -1))
            _passing.pass_on(readers_of(_passing, {"s": position}), ["s", "t"], 1, 1, b"x")
            here = Here(_passing, a=1, b=1)
            here.pass_all(*(Delivery("u", ["a", "b", "gone"], [entry(seq)]) for seq in range(1, 50)))
            with pytest.raises(msgspec.DecodeError):
                _passing.pass_all([b"\x92\x01"], here.logs, bus.decode_deliveries)
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
