"""What clients send is cut into whole frames however the network cuts it, and short messages are read as written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from gateway.incoming import Incoming, is_pong, text_of

LIMIT = 300

frames = st.builds(
    lambda opcode, size, fin, mask: Frame(opcode, bytes(i % 251 for i in range(size)), fin).serialize(mask=mask),
    st.sampled_from([Opcode.TEXT, Opcode.CONT, Opcode.BINARY]),
    st.sampled_from([0, 1, 124, 125, 126, 127, LIMIT]),
    st.booleans(),
    st.booleans(),
)


def reserved(frame: bytes) -> bytes:
    """Return a frame with a reserved bit set."""
    return bytes([frame[0] | 0x40]) + frame[1:]


def cut(incoming: Incoming, data: bytes, places: list[int]) -> list[bytes]:
    """Feed data in pieces that end at these places."""
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    found: list[bytes] = []
    for begin, end in zip([0, *ends], ends, strict=False):
        if begin < end:
            found += incoming.cut(data[begin:end])
    return found


@given(sent=st.lists(frames, max_size=8), places=st.lists(st.integers(0, 2_500), max_size=20))
def test_frames_are_whole_and_in_order_however_they_arrive(sent: list[bytes], places: list[int]) -> None:
    assert cut(Incoming(LIMIT), b"".join(sent), places) == sent


def test_a_frame_that_is_not_whole_is_waited_for() -> None:
    incoming, frame = Incoming(LIMIT), Frame(Opcode.TEXT, b"hello").serialize(mask=True)
    for position in range(len(frame) - 1):
        assert incoming.cut(frame[position : position + 1]) == []
    assert incoming.cut(frame[-1:]) == [frame]


@pytest.mark.parametrize("length", [b"\xfe\xff\xff", b"\xff\x7f\xff\xff\xff\xff\xff\xff\xff"])
def test_a_frame_that_is_too_long_is_handed_on_at_once(length: bytes) -> None:
    begin = b"\x81" + length + b"mask" + b"some of it"
    incoming = Incoming(LIMIT)
    assert incoming.cut(begin) == [begin]
    assert incoming.cut(b"") == []


@given(text=st.binary(max_size=125))
def test_a_short_text_message_is_read_as_it_was_written(text: bytes) -> None:
    assert text_of(Frame(Opcode.TEXT, text).serialize(mask=True)) == text
    unmasked = b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text
    assert text_of(unmasked) == text


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Opcode.TEXT, b"not masked").serialize(mask=False),
        Frame(Opcode.TEXT, b"not the end", fin=False).serialize(mask=True),
        reserved(Frame(Opcode.TEXT, b"compressed?").serialize(mask=True)),
        Frame(Opcode.TEXT, bytes(126)).serialize(mask=True),
        Frame(Opcode.BINARY, b"").serialize(mask=True),
        Frame(Opcode.CLOSE, b"").serialize(mask=True),
        Frame(Opcode.PING, b"").serialize(mask=True),
        Frame(Opcode.PONG, b"").serialize(mask=True),
    ],
    ids=["unmasked", "not-final", "reserved-bit", "long", "binary", "close", "ping", "pong"],  # masks are random
)
def test_everything_else_is_no_short_text(frame: bytes) -> None:
    assert text_of(frame) is None


def test_a_pong_is_told_from_the_rest() -> None:
    assert is_pong(Frame(Opcode.PONG, b"x").serialize(mask=True))
    assert not is_pong(Frame(Opcode.PONG, b"x").serialize(mask=False))
    assert not is_pong(Frame(Opcode.PING, b"x").serialize(mask=True))
    assert not is_pong(reserved(Frame(Opcode.PONG, b"x").serialize(mask=True)))


@given(sent=st.lists(frames, max_size=40), most=st.integers(1, 7), places=st.lists(st.integers(0, 9_000), max_size=9))
def test_frames_are_handed_on_a_turn_at_a_time(sent: list[bytes], most: int, places: list[int]) -> None:
    incoming, data, found = Incoming(LIMIT), b"".join(sent), list[bytes]()
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    for begin, end in zip([0, *ends], ends, strict=False):
        turn = incoming.cut(data[begin:end], most)
        found += turn
        while incoming.left:
            assert len(turn) == most
            turn = incoming.cut(b"", most)
            found += turn
            assert len(turn) <= most
    assert found == sent


def test_what_comes_while_frames_are_left_comes_after_them() -> None:
    incoming = Incoming(LIMIT)
    one, two, three = (Frame(Opcode.TEXT, text).serialize(mask=True) for text in (b"1", b"2", b"3"))
    assert incoming.cut(one + two + three[:3], 1) == [one]
    assert incoming.cut(three[3:], 1) == [two]
    assert incoming.cut(b"", 1) == [three]
    assert (incoming.left, incoming.cut(b"", 1)) == (0, [])
