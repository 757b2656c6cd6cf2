"""What `tocsin send` writes."""

from datetime import UTC, datetime

import pytest

from cli.send import Sending, check, value_of
from schemas.errors import BadRecord, SettingsError
from schemas.records import decode_notification

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_text_is_the_body_under_the_users_key() -> None:
    record = decode_notification(b"u", value_of(Sending(user="u", text="hello", title="T", kind="k"), 1, NOW))
    assert (record.user, record.body, record.title, record.kind, record.id) == ("u", "hello", "T", "k", None)


def test_data_goes_as_it_is() -> None:
    record = decode_notification(b"u", value_of(Sending(user="u", text="", data='{"a": [1]}'), 1, NOW))
    assert bytes(record.data) == b'{"a": [1]}'  # type: ignore[arg-type]  # set, as the line above shows


def test_of_many_each_has_its_own_text_and_key() -> None:
    values = [value_of(Sending(user="u", text="x", key="k", count=2), n, NOW) for n in (1, 2)]
    records = [decode_notification(b"u", value) for value in values]
    assert [(record.id, record.body) for record in records] == [("k-1", "x 1"), ("k-2", "x 2")]


def test_one_alone_keeps_its_key() -> None:
    assert decode_notification(b"u", value_of(Sending(user="u", text="x", key="k"), 1, NOW)).id == "k"


def test_it_expires_so_many_seconds_from_now() -> None:
    record = decode_notification(b"u", value_of(Sending(user="u", text="x", expires_in=90), 1, NOW))
    assert record.expires_at == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sending", "said"),
    [
        (Sending(user="u", text="x", data="x"), "--data: this is not a JSON object"),
        (Sending(user="u", text="x", data="[1]"), "--data: this is not a JSON object"),
        (Sending(user="u", text="x", data='"\ud800"'), "--data: this is not a JSON object"),
        (Sending(user="u", text="x", device="a b"), "--device: an id has 1 to 64 characters of A-Z, a-z, 0-9"),
        (Sending(user="u", text="x", device=""), "--device: an id has"),
    ],
)
def test_an_option_that_is_wrong_by_itself_is_named(sending: Sending, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check(sending)


@pytest.mark.parametrize(
    "sending",
    [
        Sending(user="u", text=""),
        Sending(user="", text="x"),
        Sending(user="u", text="x", data="[1]"),
        Sending(user="u", text="x", data="{"),
        Sending(user="u", text="x" * 70_000),
        Sending(user="u", text="x", key=""),
    ],
)
def test_what_would_become_a_dead_letter_is_not_sent(sending: Sending) -> None:
    with pytest.raises(BadRecord):
        value_of(sending, 1, NOW)
