"""What counts as the same content: what a record says, not how it is written."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.content import canonical, digest
from schemas.errors import BadRecord
from schemas.records import Notification, decode_notification


def of(value: bytes) -> bytes:
    return digest(decode_notification(b"u1", value))


def note(**fields: Any) -> Notification:
    return decode_notification(b"u1", json.dumps({"user": "u1", "title": "t", **fields}).encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":2}', '{ "b" : 2,\n\t"a" : 1 }'),
        ('{"a":{"x":[1,2],"y":null}}', '{"a":{"y":null,"x":[1, 2]}}'),
        ('{"a":1}', '{"a":1.0}'),
        ('{"a":1}', '{"a":1e0}'),
        ('{"a":100}', '{"a":1E+2}'),
        ('{"a":0}', '{"a":-0}'),
        ('{"a":0}', '{"a":-0.0}'),
        ('{"a":0}', '{"a":0e99999999999999999999}'),
        ('{"a":1e9999999999999999999999}', '{"a":10e+0009999999999999999999998}'),
        ('{"a":1e' + 5000 * "0" + "1}", '{"a":10}'),
        ('{"a":0.5}', '{"a":5e-1}'),
        ('{"a":0.5}', '{"a":0.500000000000000000000000}'),
        ('{"a":-12.5}', '{"a":-1.25e1}'),
        ('{"a":1e400}', '{"a":10e399}'),
        ('{"a":1e22}', '{"a":10000000000000000000000}'),
        ('{"a":1e100}', '{"a":1' + 100 * "0" + "}"),
        ('{"a":1e5000}', '{"a":1' + 5000 * "0" + "}"),
        ('{"a":12345678901234567890.0}', '{"a":12345678901234567890}'),
        ('{"a":"\\u00e9\\/\\n"}', '{"a":"é/\\u000a"}'),
        ('{"a":"\\ud83d\\ude00"}', '{"a":"😀"}'),
        ('{"\\u0061":1}', '{"a":1}'),
        ('{"a":2}', '{"a":1,"a":2}'),
    ],
)
def test_the_same_value_written_in_another_way_is_the_same_content(one: str, other: str) -> None:
    assert canonical(one.encode()) == canonical(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1}', '{"a":"1"}'),
        ('{"a":1}', '{"a":true}'),
        ('{"a":0}', '{"a":false}'),
        ('{"a":null}', "{}"),
        ('{"a":[1,2]}', '{"a":[2,1]}'),
        ('{"a":9007199254740992}', '{"a":9007199254740993}'),
        ('{"a":9007199254740992.0}', '{"a":9007199254740993.0}'),
        ('{"a":0.1}', '{"a":0.1000000000000000055511151231257827}'),
        ('{"a":1e400}', '{"a":1e401}'),
        ('{"a":1e400}', '{"a":-1e400}'),
        ('{"a":0}', '{"a":1e-400}'),
        ('{"a":"1e400"}', '{"a":1e400}'),
        ('{"a":1' + 100 * "0" + "}", '{"a":1' + 99 * "0" + "1}"),
        ('{"a":"é"}', '{"a":"e\\u0301"}'),
        ('{"a":1,"a":2}', '{"a":1}'),
        ("{}", '{"":0}'),
    ],
)
def test_another_value_is_other_content(one: str, other: str) -> None:
    assert canonical(one.encode()) != canonical(other.encode())


numbers = st.one_of(st.integers(), st.decimals(allow_nan=False, allow_infinity=False))


def notations(value: Decimal) -> st.SearchStrategy[str]:
    """Ways to write a number in JSON."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0") or "0"
    start = "-" if sign else ""
    forms = [f"{start}{text}e{exponent}", f"{start}{text}.00E{exponent:+d}"]
    if text != "0":
        forms.append(f"{start}{text}0e{exponent - 1}")
    if -400 < exponent < 400:
        plain = format(value, "f")
        forms += [plain, f"{plain}0" if "." in plain else f"{plain}.0"]
    return st.sampled_from(forms)


@given(numbers, st.data())
def test_numbers_are_the_same_in_every_notation(number: int | Decimal, data: st.DataObject) -> None:
    value = Decimal(number)
    one, other = data.draw(notations(value)), data.draw(notations(value))
    assert canonical(f'{{"a":{one}}}'.encode()) == canonical(f'{{"a":{other}}}'.encode())


@given(numbers, numbers, st.data())
def test_numbers_are_the_same_only_if_they_are(one: int | Decimal, other: int | Decimal, data: st.DataObject) -> None:
    first, second = Decimal(one), Decimal(other)
    assume(all(abs(int(value.as_tuple().exponent)) < 1_000 for value in (first, second)))
    texts = data.draw(notations(first)), data.draw(notations(second))
    same = canonical(f"[{texts[0]}]".encode()) == canonical(f"[{texts[1]}]".encode())
    assert same == (Fraction(first) == Fraction(second))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abé\n", max_size=2), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, data: st.DataObject) -> Any:
    match value:
        case dict():
            return {key: shuffled(value[key], data) for key in data.draw(st.permutations(list(value)))}
        case list():
            return [shuffled(item, data) for item in value]
    return value


@given(values, st.booleans(), st.sampled_from([None, 1, "\t"]), st.data())
def test_a_value_is_the_same_in_every_form(value: Any, escaped: bool, indent: Any, data: st.DataObject) -> None:
    other = json.dumps(shuffled(value, data), ensure_ascii=escaped, indent=indent).encode()
    assert canonical(other) == canonical(json.dumps(value).encode())


@given(values, values)
def test_two_values_are_the_same_only_if_they_are(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical(json.dumps([one]).encode()) == canonical(json.dumps([other]).encode())) == same


@pytest.mark.parametrize("depth", [10, 500, 900, 5_000])
def test_data_is_as_deep_as_the_record_may_be(depth: int) -> None:
    """What could be decoded has a digest, in any notation; what could not is refused as it was."""
    texts = [b'{"a": ' * depth + b"1.0" + b"}" * depth, b'{"a":' * depth + b"1" + b"}" * depth]
    try:
        digests = {of(b'{"user":"u1","data":' + text + b"}") for text in texts}
    except BadRecord:
        assert depth >= 900
    else:
        assert len(digests) == 1


def test_many_long_numbers_do_not_take_long_to_write() -> None:
    """A number is not written out that has an exponent: 64 KiB would become hundreds of MB."""
    assert len(canonical(b"[" + b",".join([b"1e4000"] * 8_000) + b"]")) < 64 * 1024


OTHERS: dict[str, list[Any]] = {
    "kind": ["k"],
    "title": ["other", ""],
    "body": ["b", ""],
    "data": [{}, {"a": 1}],
    "device": ["phone"],
    "expires_at": ["2030-01-01T00:00:00Z", "2030-01-01T00:00:00.000001Z"],
    "collapse_key": ["c", ""],
    "channels": [[], ["push"], ["push", "email"]],
    "replayed": [True],
}


def test_every_field_is_content() -> None:
    assert set(OTHERS) == set(Notification.__struct_fields__) - {"user", "id", "v"}
    notes = [note(), *(note(**({"body": "b"} | {name: value})) for name, given in OTHERS.items() for value in given)]
    assert len({digest(each) for each in notes}) == len(notes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"expires_at": "2030-01-01T00:00:00Z"}, {"expires_at": "2030-01-01T05:30:00.000+05:30"}),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, {"expires_at": "0001-01-01T00:00:00.0+14:00"}),
        ({"channels": ["push", "email"]}, {"channels": ["email", "push", "email"]}),
        ({"id": 5}, {"id": "5"}),
        ({"data": None}, {}),
        ({"body": None, "device": None, "expires_at": None, "collapse_key": None, "channels": None, "id": None}, {}),
        ({"replayed": False, "v": 1, "kind": ""}, {}),
        ({"something": "new"}, {}),
    ],
)
def test_fields_that_mean_the_same_are_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert digest(note(**one)) == digest(note(**other))


def test_what_the_client_is_sent_stays_as_it_came() -> None:
    value = b'{"user":"u1","id":"a","data":{"b": 1.0,\n"a":1e2}}'
    assert decode_notification(b"u1", value).data == msgspec.Raw(b'{"b": 1.0,\n"a":1e2}')
