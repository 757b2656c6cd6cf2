import pytest
from websockets.frames import Frame, Opcode

from gateway.framing import PING, framed, joined


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_a_frame_is_what_the_library_would_write(size: int) -> None:
    payload = b"x" * size
    assert framed(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_messages_are_joined() -> None:
    one = b"hello" * 10
    assert joined([one, b"b"]) == framed(one) + framed(b"b")
    assert joined([one]) == framed(one)


def test_ping_is_empty() -> None:
    assert Frame(Opcode.PING, b"").serialize(mask=False) == PING
