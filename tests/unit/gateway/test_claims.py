"""What a token has to say: each refusal names the claim, on the library's way and on the quick one."""

import hmac
from typing import Any

import pytest

from gateway.claims import LEEWAY, REMEMBERED, Rules
from schemas.errors import BadToken, SettingsError
from streams.settings import Settings, read_settings
from tests.unit.gateway.tokens import NOW, PRIVATE, by_hand, encoded, key, token, verifier

DAY = 86_400.0
STRICT = Rules(audience=("app", "web"), issuer=("https://id.example",), life=3_600)
GOOD: dict[str, Any] = {"aud": "app", "iss": "https://id.example", "iat": NOW}


def check(rules: Rules, *, again: bool = False, **claims: Any) -> Any:
    judge = verifier(key("HS256"), rules=rules)
    if again:
        aud, iss = next(iter(rules.audience), None), next(iter(rules.issuer), None)
        judge.check(token("HS256", aud=aud, iss=iss))
    said = {name: value for name, value in {"sub": "u1", "exp": NOW + 60, **claims}.items() if value is not None}
    return judge.check(_signed(f"{token('HS256').partition('.')[0]}.{encoded(said)}"))


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize(
    ("rules", "claims", "named"),
    [
        (STRICT, GOOD | {"aud": None}, "lacks the claim `aud`"),
        (STRICT, GOOD | {"aud": []}, "lacks the claim `aud`"),
        (STRICT, GOOD | {"aud": "other"}, "another `aud`"),
        (STRICT, GOOD | {"aud": ["x", "y"]}, "another `aud`"),
        (STRICT, GOOD | {"aud": 7}, "`aud`"),
        (STRICT, GOOD | {"aud": ["app", 7]}, "`aud`"),
        (STRICT, GOOD | {"iss": None}, "lacks the claim `iss`"),
        (STRICT, GOOD | {"iss": "https://id.example/"}, "another `iss`"),
        (STRICT, GOOD | {"iss": ["https://id.example"]}, "`iss`"),
        (STRICT, GOOD | {"exp": NOW + 3_600 + LEEWAY + 1}, "`exp`"),
        (STRICT, GOOD | {"iat": None, "exp": NOW + 3_600 + LEEWAY + 1}, "`exp`"),
        (STRICT, GOOD | {"iat": NOW - 3_600, "exp": NOW + 60}, "`exp`"),
        (Rules(), {"exp": NOW + DAY + LEEWAY + 1}, "`exp`"),
        (Rules(), {"exp": NOW + 1e9, "iat": NOW}, "`exp`"),
        (Rules(), {"aud": "app"}, "`aud`"),
        (Rules(), {"exp": None}, "lacks the claim `exp`"),
        (Rules(), {"sub": None}, "lacks the claim `sub`"),
        (Rules(), {"exp": NOW - LEEWAY}, "`exp`"),
        (Rules(), {"exp": "soon"}, "`exp`"),
        (Rules(), {"sub": 7}, "`sub`"),
        (Rules(), {"sub": ""}, "`sub`"),
        (Rules(), {"device": ""}, "`device`"),
        (Rules(), {"jti": 7}, "`jti`"),
        (Rules(), {"nbf": NOW + 60}, "`nbf`"),
        (Rules(), {"iat": NOW + 60}, "`iat`"),
        (Rules(), {"iat": -1}, "`iat`"),
    ],
)
def test_a_refusal_names_the_claim(rules: Rules, claims: dict[str, Any], named: str, again: bool) -> None:
    with pytest.raises(BadToken) as caught:
        check(rules, again=again, **claims)
    assert named in str(caught.value)
    assert len(str(caught.value)) <= 123  # what a close frame holds


@pytest.mark.parametrize(
    ("rules", "claims"),
    [
        (STRICT, GOOD),
        (STRICT, GOOD | {"aud": ["x", "web"]}),
        (STRICT, GOOD | {"iat": NOW - 3_000, "exp": NOW + 600}),
        (Rules(issuer=("a", "b")), {"iss": "b"}),
        (Rules(), {"iss": "anybody", "aud": []}),
        (Rules(), {"exp": NOW + DAY, "iat": NOW}),
        (Rules(), {"exp": NOW + DAY}),
        (Rules(life=REMEMBERED), {"exp": NOW + REMEMBERED}),
    ],
)
def test_what_the_rules_ask_for_is_let_in(rules: Rules, claims: dict[str, Any]) -> None:
    for again in (False, True):
        assert check(rules, again=again, **claims).user == "u1"


@pytest.mark.parametrize("claim", ["sub", "device", "jti", "iss", "aud"])
@pytest.mark.parametrize("text", [r"\ud800", r"a\udfffb", r"\ud800\ud800", r"\ud83dx"])
def test_half_of_a_surrogate_pair_is_no_text(claim: str, text: str) -> None:
    said = f'{{"sub":"u1","exp":{NOW + 60},"{claim}":"{text}"}}'.encode()
    signed = f"{encoded({'alg': 'HS256'})}.{encoded(said)}"
    judge = verifier(key("HS256"))
    for _ in range(2):
        with pytest.raises(BadToken, match="malformed"):
            judge.check(_signed(signed))
        judge.check(_signed(f"{encoded({'alg': 'HS256'})}.{encoded({'sub': 'u1', 'exp': NOW + 60})}"))


def _signed(text: str) -> str:
    return f"{text}.{encoded(hmac.digest(PRIVATE['HS256'], text.encode(), 'sha256'))}"


@pytest.mark.parametrize("said", [b"", b"null", b"[]", b"7", b'"x"', b"{", b"{}x", b"\xff", b"[" * 3_000])
def test_a_payload_that_is_no_object_is_malformed(said: bytes) -> None:
    with pytest.raises(BadToken):
        verifier(key("HS256")).check(_signed(f"{encoded({'alg': 'HS256'})}.{encoded(said)}"))
    with pytest.raises(BadToken):
        verifier(key("HS256")).check(by_hand({"alg": "HS256"}, said))


def test_the_longest_life_is_bounded_by_what_a_revocation_remembers() -> None:
    assert read_settings({"TOCSIN_TOKEN_LIFE": str(REMEMBERED)}).token_life == REMEMBERED
    assert Settings().token_life == DAY
    for value in ("0", "-1", str(REMEMBERED + 1), "inf", "nan", "day"):
        with pytest.raises(SettingsError, match="TOCSIN_TOKEN_LIFE"):
            read_settings({"TOCSIN_TOKEN_LIFE": value})
