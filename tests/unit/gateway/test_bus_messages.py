"""Versions side by side: what a reader does not know must not stop it."""

import msgspec
import pytest

from schemas import bus
from schemas.bus import Beat, Found, Inquiry, Sighting


@pytest.mark.parametrize("message", [Beat("w", {1: 2}, {"g": 3}), Inquiry("r", "u1", "phone", "s1", end=True)])
def test_a_message_comes_back_as_it_was(message: bus.Message) -> None:
    assert bus.decode(bus.encode(message)) == message


def test_an_answer_comes_back_as_it_was() -> None:
    found = Found("g", [Sighting("s", "phone", "ws", 1, {"inbox/normal": 5}, 0)])
    assert bus.decode_found(bus.encode(found)) == found


def test_a_tag_that_is_not_known_is_the_error_that_the_subscription_drops() -> None:
    with pytest.raises(msgspec.DecodeError):
        bus.decode(msgspec.msgpack.encode(["later", 1, 2]))


def test_a_field_that_was_added_is_ignored() -> None:
    assert bus.decode(msgspec.msgpack.encode(["b", "w", {}, {}, "added later"])) == Beat("w", {}, {})
