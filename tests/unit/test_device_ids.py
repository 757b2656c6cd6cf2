"""What may be the id of a device, at every entrance where one comes in."""

from typing import Any

import msgspec
import pytest

from schemas.errors import BadRecord
from schemas.frames import Hello
from schemas.records import (
    Connected,
    OpenSession,
    SyncRequest,
    decode_connection,
    decode_notification,
    encode,
    is_device,
)

GOOD = ["a", "A-z.0_9:x", "0", "-", "d" * 64]
BAD = ["d" * 65, "a b", "a/b", "é", "a\n", "\n", "a\x00", "{", "\u202e", "d" * 5_000]


def refuses(type_: Any, value: Any) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=type_)
    except msgspec.ValidationError:
        return True
    return False


@pytest.mark.parametrize(("device", "good"), [*((one, True) for one in GOOD), *((one, False) for one in BAD)])
def test_a_device_has_1_to_64_plain_characters(device: str, good: bool) -> None:
    assert is_device(device) is good
    assert refuses(Hello, {"type": "hello", "device": device}) is not good
    for type_, item in (
        (SyncRequest, ["u", "s", device, "inbox/normal", 0, 1]),
        (OpenSession, ["u", "s", device, "ws", {}]),
    ):
        assert refuses(type_, item) is not good
    note = msgspec.json.encode({"user": "u", "title": "t", "device": device})
    said = encode(Connected(user="u", session="s", gateway="g", device=device))
    if good:
        assert decode_notification(b"u", note).device == device
        assert decode_connection(said)
        return
    for decode in (lambda: decode_notification(b"u", note), lambda: decode_connection(said)):
        with pytest.raises(BadRecord, match="device"):
            decode()


def test_only_a_session_may_have_none() -> None:
    assert decode_connection(encode(Connected(user="u", session="s", gateway="g", device="")))
    assert refuses(Hello, {"type": "hello", "device": ""})
    assert not is_device("")


@pytest.mark.parametrize("field", ["session", "gateway"])
def test_names_of_sessions_and_gateways_have_an_end(field: str) -> None:
    said = Connected(user="u", session="s", gateway="g", device="d")
    with pytest.raises(BadRecord, match=field):
        decode_connection(encode(msgspec.structs.replace(said, **{field: "x" * 301})))
