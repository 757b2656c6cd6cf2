"""Entries that pass, in Python and in C: to whom, in which order, and where the socket does not take all."""

import gc
import shutil
import socket
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gateway import passing, passing_pure

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


def test_an_entry_goes_to_those_who_wait_for_just_this_one(form: Any) -> None:
    transports = {name: Transport() for name in "abc"}
    ways = {name: form.Way(one.write, one.waiting, -1) for name, one in transports.items()}
    positions = {"a": at(form, 7, ways["a"]), "b": at(form, 6, ways["b"]), "c": at(form, 7, ways["c"])}
    assert form.pass_on(positions, ["a", "b", "nobody", "c"], 7, 7, b"x") == ["b", "nobody"]
    assert [one.written for one in transports.values()] == [[b"x"], [], [b"x"]]
    a, b = positions["a"], positions["b"]
    assert (a.expected, a.head, a.sent, a.next) == (8, 7, 7, 8)
    assert (b.expected, b.head, b.sent, b.next) == (6, 5, 5, 6)


def test_nothing_passes_a_position_that_is_not_clear(form: Any) -> None:
    position = at(form, 1, form.Way(Transport().write, Transport().waiting, -1))
    position.next = 0
    assert form.pass_on({"s": position}, ["s"], 0, 0, b"x") == ["s"]
    position.next, position.way = 1, None
    assert form.pass_on({"s": position}, ["s"], 1, 1, b"x") == ["s"]


def test_what_ends_the_passing_from_within_a_write_ends_it(form: Any) -> None:
    position: Any = None

    def choke(_data: bytes) -> None:
        position.next = 0
        position.way = None

    position = at(form, 1, form.Way(choke, lambda: 0, -1))
    assert form.pass_on({"s": position}, ["s", "s"], 1, 1, b"x") == ["s"]
    assert position.next == 0


def test_an_error_of_the_transport_is_not_swallowed(form: Any) -> None:
    def broken(_data: bytes) -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        form.pass_on({"s": at(form, 1, form.Way(broken, lambda: 0, -1))}, ["s"], 1, 1, b"x")


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
        assert _passing.pass_on(positions, names, 1, 1, b"x") == ["s50"]
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
            _passing.pass_on({"s": SimpleNamespace(next=1)}, ["s"], 1, 1, b"x")

    def test_a_way_that_was_made_without_its_arguments_is_refused(self) -> None:
        with pytest.raises(TypeError, match="nowhere"):
            _passing.Way.__new__(_passing.Way).send(b"x")

    def test_nothing_leaks(self) -> None:
        before = passing_count(_passing)
        for _ in range(100):
            position = at(_passing, 1, _passing.Way(Transport().write, Transport().waiting, -1))
            _passing.pass_on({"s": position}, ["s", "t"], 1, 1, b"x")
        del position
        assert passing_count(_passing) == before


def passing_count(form: ModuleType) -> int:
    """Return how many of a form's objects there are, after a look for garbage."""
    gc.collect()
    # By `type`, not `isinstance`, which would ask a weak proxy of another test for the class of what is gone.
    return sum(issubclass(type(one), form.Way | form.Position) for one in gc.get_objects())


def test_it_is_in_c_where_it_can_be_built() -> None:
    switched_off = sys.modules.get("gateway._passing", passing) is None  # tests.without_native
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if shutil.which("cc") and header.exists() and not switched_off:
        assert passing.LANGUAGE == "C"
    else:
        assert passing.LANGUAGE == "Python" or not switched_off
