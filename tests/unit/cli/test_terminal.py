"""What commands print cannot drive a terminal."""

import json
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.terminal import as_json, columns, remark, say, show
from schemas.text import printable

HOSTILE = {
    "\x1b[2J": r"\x1b[2J",
    "\x9b31m": r"\x9b31m",
    "a\rb\nc\td": r"a\rb\nc\td",
    "\x00\x07\x08\x7f": r"\x00\x07\x08\x7f",
    "pay \u202e001\u202c": r"pay \u202e001\u202c",
    "\u2066x\u2069\u200f\ufeff": r"\u2066x\u2069\u200f\ufeff",
    "\u2028\u2029": r"\u2028\u2029",
    "\U000e0041": r"\U000e0041",
    "\ud800": r"\ud800",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_what_drives_a_terminal_is_shown_as_its_escape_sequence(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text", ["hello", "Grüße, 你好", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "a\u00a0b", "a\u200cb"]
)
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(st.text(st.characters()))
def test_no_control_character_is_left(text: str) -> None:
    for shown in (printable(text), as_json(json.dumps(text, ensure_ascii=False))):
        left = {unicodedata.category(c) for c in shown if c not in "\u200c\u200d\u00a0\u3000"}
        assert left.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_json_without_them_means_the_same(document: object) -> None:
    assert json.loads(as_json(msgspec.json.encode(document).decode())) == document


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\ntwo", "three")
    remark("four\x1b[0m")
    assert capsys.readouterr() == ("one\\ntwo\nthree\n", "four\\x1b[0m\n")


def test_a_list_is_an_array_also_where_it_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    show([])
    show([{"a": "\x9b"}])
    assert capsys.readouterr().out == '[]\n[{"a":"\\u009b"}]\n'


def test_columns_stand_under_each_other() -> None:
    assert columns([("a", "b"), ("\x1b", "c")]) == ["a     b", "\\x1b  c"]
