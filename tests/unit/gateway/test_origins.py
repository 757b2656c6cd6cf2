"""Which pages may connect, however origins and hosts are spelt, and what is said about those that may not."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.origins import NAMED, Origins
from schemas.errors import SettingsError


@pytest.mark.parametrize(
    ("setting", "origin", "host", "allowed"),
    [
        ("", None, "h:1", True),
        ("", "http://h:1", "h:1", True),
        ("", "http://H:1", "h:1", True),
        ("", "http://evil", "h:1", False),
        ("", "null", "h:1", False),
        ("", "http://h", None, False),
        ("*", "http://evil", "h:1", True),
        ("https://a.example, https://b.example/", "https://b.example", "h:1", True),
        ("https://a.example", "https://a.example.evil", "h:1", False),
        ("https://a.example", "http://a.example", "h:1", False),
        ("https://a.example", "http://h:1", "h:1", False),
        ("https://a.example", None, "h:1", True),
        # default ports
        ("", "https://h", "h:443", True),
        ("", "https://h:443", "h", True),
        ("", "http://h", "h:80", True),
        ("", "http://h:80", "h", True),
        ("", "https://h", "h:80", False),
        ("", "https://h:444", "h", False),
        ("https://h:443", "https://h", "elsewhere", True),
        ("https://h", "https://h:443", "elsewhere", True),
        ("http://h:80", "http://h", "elsewhere", True),
        ("http://h:443", "https://h", "elsewhere", False),
        # spelling
        ("HTTPS://App.Example", "https://app.example", "h", True),
        ("https://app.example.", "https://app.example", "h", True),
        ("https://app.example", "https://app.example.", "h", True),
        ("", "https://app.example", "APP.example.:443", True),
        ("https://bücher.example", "https://xn--bcher-kva.example", "h", True),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", "h", True),
        ("http://[0:0::1]:3000", "http://[::1]:3000", "h", True),
        ("", "http://[::1]:80", "[0:0:0:0:0:0:0:1]", True),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", "h", True),
        # words
        ("loopback", "http://localhost:3000", "h", True),
        ("loopback", "http://app.localhost:3000", "h", True),
        ("loopback", "http://127.0.0.1:5173", "h", True),
        ("loopback", "https://127.8.9.1", "h", True),
        ("loopback", "http://[::1]:3000", "h", True),
        ("loopback", "http://localhost.evil", "h", False),
        ("loopback", "http://evil", "h", False),
        ("loopback", "http://h:1", "h:1", False),
        ("loopback", "ftp://localhost", "h", False),
        ("same,loopback", "http://h:1", "h:1", True),
        ("same, https://a.example", "https://a.example", "h:1", True),
        ("null", "null", "h", True),
        ("same", "null", "null", False),
        # what is no origin
        ("", "https://h/path", "h", False),
        ("", "https://u@h", "h", False),
        ("", "https://h?", "h", False),
        ("", "https://h#", "h", False),
        ("", "https://h:99999", "h:99999", False),
        ("", "h", "h", False),
        ("", "", "", False),
        ("", "https://", "", False),
        ("", "https://h h", "h h", False),
        ("", "https://h,https://h", "h", False),
        ("", "https://h\\@evil", "h", False),
    ],
)
def test_origins(setting: str, origin: str | None, host: str | None, allowed: bool) -> None:
    assert Origins(setting).allow(origin, host) is allowed


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ("example.com", "write https://example.com"),
        ("example.com:8443", "write https://example.com:8443"),
        ("localhost:3000", "write https://localhost:3000"),
        ("https://a.example/app", "write https://a.example"),
        ("https://a.example?x=1", "write https://a.example"),
        ("https://u:p@a.example", "write https://a.example"),
        ("https://*.example.com", "list each origin"),
        ("*.example.com", "list each origin"),
        ("wss://a.example", "write https://a.example"),
        ("ws://a.example:1", "write http://a.example:1"),
        ("https://", "such as https://app.example"),
        ("https://a b", "such as https://app.example"),
        ("https://a.example:x", "such as https://app.example"),
        ("https://a.example:99999", "such as https://app.example"),
        ("http://[::x]", "such as https://app.example"),
        ("https://straße.example", "Punycode"),
        ("https://ok.example,nonsense\x1b[2J", "such as https://app.example"),
        ("https://a.example;https://b.example", "such as https://app.example"),
    ],
)
def test_a_setting_that_no_page_can_match_is_refused_with_what_to_write(setting: str, advice: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Origins(setting)
    said = str(caught.value)
    assert said.startswith("TOCSIN_ORIGINS: ")
    assert advice in said
    assert said.isprintable()


def test_a_refusal_is_one_line_a_minute_that_names_origin_and_setting(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    origins = Origins("https://a.example", lambda: now)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            origins.note_refused("https://evil.example")
        assert [record.getMessage() for record in caplog.records] == [
            "pages of https://evil.example may not connect: TOCSIN_ORIGINS is https://a.example"
        ]
        now = 61.0
        origins.note_refused("https://evil.example")
    assert len(caplog.records) == 2


def test_many_origins_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    origins = Origins("", lambda: now)
    with caplog.at_level(logging.WARNING):
        for number in range(1_000):
            origins.note_refused(f"https://e{number}.example\x1b[2J\n" + "x" * 5_000)
        assert len(caplog.records) == NAMED
        assert all(record.getMessage().isprintable() for record in caplog.records)
        assert all(len(record.getMessage()) < 500 for record in caplog.records)
        now = 61.0
        origins.note_refused("https://last.example")
    assert f"{1_000 - NAMED} refusals of other origins were not named" in caplog.records[-1].getMessage()


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_asked_is_answered(origin: str, host: str) -> None:
    for setting in ("", "loopback", "https://a.example"):
        assert Origins(setting).allow(origin, host) in (True, False)
