"""Bad input of every kind: exactly one dead letter or status says what became of it, and its partition goes on."""

import pytest

from schemas.ids import position_id
from schemas.rows import Cursor
from tests.integration.worker.conftest import PARTITIONS, Deployment, home, until

BAD = {
    "not-json": (b"u-not-json", b"{title", "not_json"),
    "not-utf8": (b"u-not-utf8", b'{"user":"u-not-utf8","title":"\xff"}', "not_json"),
    "no-object": (b"u-no-object", b"[1]", "bad_request"),
    "wrong-type": (b"u-wrong-type", b'{"user":"u-wrong-type","title":7}', "bad_request"),
    "no-user": (b"u-no-user", b'{"title":"t"}', "bad_request"),
    "no-content": (b"u-no-content", b'{"user":"u-no-content"}', "bad_request"),
    "other-key": (b"u-other-key", b'{"user":"somebody","title":"t"}', "key_mismatch"),
    "null-key": (None, b'{"user":"u-null-key","title":"t"}', "key_mismatch"),
    "null-value": (b"u-null-value", None, "bad_request"),
    "too-large": (b"u-too-large", b'{"user":"u-too-large","title":"' + b"x" * 65_600 + b'"}', "too_large"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_becomes_one_dead_letter_and_the_next_one_is_delivered(running: Deployment, name: str) -> None:
    key, value, code = BAD[name]
    user = f"u-{name}"
    place = running.send(key, value, partition=home(user))
    running.send_note(user)
    running.expect_rows(user, 1)
    (letter,) = until(lambda: running.letters_of(place))
    assert (letter.key, letter.value) == (key, value)
    assert letter.headers["tocsin-reason"] == code.encode()
    assert letter.headers["tocsin-error"]


def test_a_record_without_key_and_value_becomes_one_dead_letter(running: Deployment) -> None:
    place = running.send(None, None, partition=home("u-nothing"))
    running.send_note("u-nothing")
    running.expect_rows("u-nothing", 1)
    (letter,) = until(lambda: running.letters_of(place))
    assert not letter.key
    assert not letter.value
    assert letter.headers["tocsin-reason"] == b"bad_request"


def test_an_id_used_again_with_other_content_is_a_conflict(running: Deployment) -> None:
    running.send_note("u-conflict", id="a", title="one")
    place = running.send_note("u-conflict", id="a", title="another")
    running.send_note("u-conflict", id="b")
    running.expect_rows("u-conflict", 2)
    (letter,) = until(lambda: running.letters_of(place))
    assert letter.headers["tocsin-reason"] == b"conflict"
    assert b"another" in (letter.value or b"")


def test_a_repeat_is_the_same_entry(running: Deployment) -> None:
    places = [running.send_note("u-repeat", id="a") for _ in range(3)]
    running.send_note("u-repeat", id="b")
    rows = running.expect_rows("u-repeat", 2)
    assert [row.key for row in rows] == ["a", "b"]
    assert not [letter for place in places for letter in running.letters_of(place)]


def test_a_record_past_its_time_leaves_a_status_and_no_entry(running: Deployment) -> None:
    place = running.send_note("u-late", id="late", expires_at="2020-01-01T00:00:00Z")
    running.send_note("u-late", id="good")
    rows = running.expect_rows("u-late", 1)
    assert rows[0].key == "good"
    (status,) = until(lambda: running.statuses_of("u-late"))
    assert (status["id"], status["state"], status["reason"]) == ("late", "expired", "expired")
    assert not running.letters_of(place)


def test_an_entry_for_an_unknown_device_waits_and_leaves_a_status(running: Deployment) -> None:
    running.send_note("u-device", id="a", device="never-seen")
    rows = running.expect_rows("u-device", 1)
    assert rows[0].device == "never-seen"
    (status,) = until(lambda: running.statuses_of("u-device"))
    assert (status["id"], status["state"], status["reason"]) == ("a", "queued", "unknown_device")


def test_a_record_in_the_wrong_partition_is_sent_home_under_its_id_and_appended_once(running: Deployment) -> None:
    wrong = (home("u-lost") + 1) % PARTITIONS
    _, offset = running.send_note("u-lost", title="stray", partition=wrong)
    rows = running.expect_rows("u-lost", 1)
    id_ = rows[0].key
    assert id_.endswith(position_id(0, 2, wrong, offset)[-16:])  # what follows the time: topic, partition, offset
    assert f'"id":"{id_}"'.encode() in rows[0].frame
    running.send_note("u-lost", id="next")
    assert [row.key for row in running.expect_rows("u-lost", 2)] == [id_, "next"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"rubbish", b"not_json"),
        (b'{"type":"connected"}', b"bad_request"),
        (b'{"type":"unheard of"}', b"bad_request"),
        (b'{"v":1,"type":"sync","gateway":"g","syncs":[["u-far","s","d","inbox/normal",1,9]]}', b"key_mismatch"),
        (b'{"v":1,"type":"sync","gateway":"g","syncs":[["u-far","s"]]}', b"bad_request"),
        (None, b"bad_request"),
    ],
)
def test_rubbish_among_the_connections_becomes_a_dead_letter(
    running: Deployment, value: bytes | None, code: bytes
) -> None:
    partition = (home("u-far") + 1) % PARTITIONS
    place = running.send(b"k", value, topic="connections", partition=partition)
    (letter,) = until(lambda: running.letters_of(place, "connections"))
    assert letter.headers["tocsin-reason"] == code
    assert letter.value == value
    until(lambda: running.committed("connections", partition) > place[1])


def test_an_acknowledgement_in_the_wrong_partition_counts_all_the_same(running: Deployment) -> None:
    wrong = (home("u-ack") + 1) % PARTITIONS
    value = b'{"v":1,"type":"acks","gateway":"g","acks":[["u-ack","phone","inbox/normal",3,2]]}'
    place = running.send(b"k", value, topic="acks", partition=wrong)
    expected = [Cursor("u-ack", "inbox/normal", device, 3, 2) for device in ("", "phone")]
    until(lambda: running.cursors("u-ack") == expected)
    until(lambda: running.committed("acks", wrong) > place[1])
    assert not running.letters_of(place, "acks")


def test_a_bad_acknowledgement_among_others_becomes_a_dead_letter_and_the_others_count(running: Deployment) -> None:
    items = b",".join(b'["u-ack-%d","phone","inbox/normal",3,2]' % number for number in range(499))
    value = b'{"v":1,"type":"acks","gateway":"g","acks":[["u","\\ud800","inbox/normal",1,1],%s]}' % items
    place = running.send(b"k", value, topic="acks", partition=0)
    (letter,) = until(lambda: running.letters_of(place, "acks"))
    assert (letter.headers["tocsin-reason"], letter.value) == (b"bad_request", value)
    assert b"acks[0]" in letter.headers["tocsin-error"]
    until(lambda: len(running.cursors("u-ack-498")) == 2)
    until(lambda: running.committed("acks", 0) > place[1])
