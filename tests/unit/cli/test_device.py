"""A device: cursors, repeats, holes, acknowledgements."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.device import Cursors, Device
from schemas import frames
from schemas.records import Notification

LOG = "inbox/normal"


def entry(seq: int, log: str = LOG) -> bytes:
    record = Notification(user="u", title=f"t{seq}")
    return frames.notification_frame(record, log=log, seq=seq, n=seq, id_=f"i{seq}", ts_ms=0)


def welcome(epoch: str = "e") -> bytes:
    return frames.encode(
        frames.Welcome(
            session="s",
            user="u",
            device="d",
            epoch=epoch,
            heads={LOG: 3},
            cursors={LOG: 0},
            unread={},
            heartbeat=25.0,
            gateway="g",
        )
    )


def said(texts: list[str]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts]


def test_a_new_device_says_hello_without_cursors() -> None:
    assert json.loads(Device(Cursors()).hello("d")) == {"type": "hello", "client": "tocsin-cli", "device": "d"}


def test_a_device_that_comes_back_brings_its_cursors_and_their_epoch() -> None:
    device = Device(Cursors())
    device.receive(welcome())
    device.receive(entry(4))
    hello = json.loads(device.hello(None))
    assert (hello["epoch"], hello["cursors"]) == ("e", {LOG: 4})
    assert "device" not in hello


def test_what_it_says_is_what_the_gateway_understands() -> None:
    device = Device(Cursors())
    device.receive(welcome())
    device.receive(entry(4))
    hole = device.receive(entry(9))
    for text in [device.hello("d"), *device.acks(), *hole.answers]:
        frames.decode_client_frame(text.encode())


def test_entries_are_shown_once_and_acknowledged_cumulatively() -> None:
    device = Device(Cursors())
    shown = [e.seq for seq in (5, 6, 6, 5, 7) for e in device.receive(entry(seq)).show]
    assert shown == [5, 6, 7]
    assert device.repeats == 2
    assert said(device.acks()) == [{"type": "ack", "log": LOG, "seq": 7}]
    assert device.acks() == []


def test_a_hole_is_asked_for_once_and_nothing_behind_it_is_shown() -> None:
    device = Device(Cursors(cursors={LOG: 4}))
    first, second = device.receive(entry(7)), device.receive(entry(8))
    assert said(first.answers) == [{"type": "sync", "log": LOG, "after": 4}]
    assert (first.show, second.show, second.answers) == ([], [], [])
    assert [e.seq for seq in (5, 6, 7) for e in device.receive(entry(seq)).show] == [5, 6, 7]


def test_a_hole_is_asked_for_again_after_a_new_connection() -> None:
    device = Device(Cursors(cursors={LOG: 4}))
    device.receive(entry(7))
    device.hello(None)
    assert device.receive(entry(7)).answers


def test_a_gap_is_asked_for() -> None:
    device = Device(Cursors(cursors={LOG: 4}))
    step = device.receive(frames.encode(frames.Gap(log=LOG, first=5, last=9)))
    assert said(step.answers) == [{"type": "sync", "log": LOG, "after": 4}]


def test_what_is_skipped_counts_as_had() -> None:
    device = Device(Cursors(cursors={LOG: 4}))
    device.receive(frames.encode(frames.Skip(log=LOG, first=5, last=9, reason="expired")))
    assert [e.seq for e in device.receive(entry(10)).show] == [10]


def test_a_skip_that_lies_behind_changes_nothing_and_one_that_lies_ahead_is_a_hole() -> None:
    device = Device(Cursors(cursors={LOG: 4}))
    device.receive(frames.encode(frames.Skip(log=LOG, first=2, last=3, reason="expired")))
    assert device.state.cursors == {LOG: 4}
    assert device.receive(frames.encode(frames.Skip(log=LOG, first=7, last=8, reason="expired"))).answers


def test_too_long_goes_on_after_the_head() -> None:
    device = Device(Cursors(cursors={LOG: 4}))
    assert "too far behind" in device.receive(frames.encode(frames.TooLong(log=LOG, head=90))).note
    assert [e.seq for e in device.receive(entry(91)).show] == [91]


def test_a_reset_voids_the_cursor() -> None:
    device = Device(Cursors(cursors={LOG: 40}, epoch="old"))
    device.receive(welcome("new"))
    device.receive(frames.encode(frames.Reset(log=LOG, head=2)))
    assert device.state.epoch == "new"
    assert [e.seq for e in device.receive(entry(1)).show] == [1]


def test_a_goodbye_says_when_to_come_back() -> None:
    assert Device(Cursors()).receive(frames.encode(frames.Reconnect(after=700))).reconnect == 700


def test_an_error_is_told() -> None:
    step = Device(Cursors()).receive(frames.encode(frames.ErrorFrame(code="forbidden", message="no")))
    assert step.note == "error forbidden: no"


def test_frames_of_a_newer_server_are_ignored() -> None:
    assert Device(Cursors()).receive('{"type": "presence", "log": 7}').show == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"type": "skip", "log": 1}'])
def test_what_is_no_frame_raises(text: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        Device(Cursors()).receive(text)


@given(st.lists(st.integers(1, 12), max_size=60))
def test_whatever_comes_in_whatever_order_the_screen_has_it_once_and_in_order(seqs: list[int]) -> None:
    device = Device(Cursors(cursors={LOG: 0}))
    shown: list[int] = []
    for seq in seqs:
        step = device.receive(entry(seq))
        shown += [e.seq for e in step.show]
        for sync in said(step.answers):  # the server answers what is asked
            shown += [e.seq for n in range(sync["after"] + 1, seq + 1) for e in device.receive(entry(n)).show]
    assert shown == list(range(1, max(seqs, default=0) + 1))
