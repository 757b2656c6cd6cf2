"""What fuzzing has found, each as small as it gets."""

import json

import msgspec
import pytest

from gateway.origins import Origins
from schemas import bus
from schemas.errors import BadFrame, BadRecord
from schemas.frames import decode_client_frame
from schemas.records import MAX_SEQ, decode_connection
from tests.fuzz.harness import crashed
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("after", [MAX_SEQ + 1, 2**63, 2**64, 10**30])
def test_a_number_that_the_bus_and_the_stores_cannot_hold_ends_at_the_gateway(after: int) -> None:
    """One `sync` of one client ended every worker that owned the partition, again and again."""
    for said in ({"type": "sync", "log": "inbox/normal", "after": after}, {"type": "hello", "cursors": {"a": after}}):
        with pytest.raises(BadFrame) as refused:
            decode_client_frame(json.dumps(said).encode())
        assert refused.value.code == "bad_request"


def test_a_worker_refuses_it_as_well() -> None:
    record = {"type": "sync", "gateway": "g", "syncs": [["u", "s", "d", "inbox/normal", 10**30, 500]]}
    with pytest.raises(BadRecord):
        decode_connection(json.dumps(record).encode())


def test_the_largest_number_is_taken() -> None:
    assert decode_client_frame(b'{"type": "sync", "log": "inbox/normal", "after": 9007199254740991}')


@pytest.mark.parametrize("origin", ["http://[", "p://[]", "h://]", "//[::"])
def test_an_origin_that_is_no_url_is_none_of_ours(origin: str) -> None:
    assert not Origins("").allow(origin, "h")
    assert crashed(TARGETS["handshake"], f"/ws\n{origin}\nh".encode()) == ("", False)


def test_a_message_of_the_bus_with_text_that_is_not_utf8_is_dropped() -> None:
    """It ended the gateway, which takes only a `DecodeError` for a message that cannot be read."""
    for decode in (bus.decode, bus.decode_found):
        with pytest.raises(msgspec.DecodeError):
            decode(b"\x93\xa2\x81\xa1")
