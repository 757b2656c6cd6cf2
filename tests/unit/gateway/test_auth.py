import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from gateway.auth import Verifier
from gateway.claims import LEEWAY, Rules
from gateway.keys import Keyring, secret_key
from schemas.errors import BadToken

SECRET = "only the tests know this secret, and it is long enough for every HMAC"
NOW = 1_800_000_000.0


# It brings the key that it was signed with, and says where others lie: keys are ours, whatever a header names.
KEY_OF_ITS_OWN = jwt.encode(
    {"sub": "u1", "exp": NOW + 60}, "a key that the client has made up for itself", "HS256",
    headers={"kid": "../../dev/null", "jku": "http://evil/keys", "jwk": {"kty": "oct", "k": "YSBrZXk"}},
)  # fmt: skip


def verifier_of() -> Verifier:
    return Verifier(Keyring([secret_key(SECRET)]), Rules(), lambda: NOW)


def check(token: str) -> object:
    return verifier_of().check(token)


def check_another(token: str) -> object:
    """Check a token by somebody who has seen a good one before."""
    verifier = verifier_of()
    verifier.check(signed())
    return verifier.check(token)


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"sub": "u1", "exp": NOW + 60, **claims}, secret, algorithm)


def unsigned(header: dict[str, object], **claims: object) -> str:
    parts = [header, {"sub": "u1", "exp": NOW + 60, **claims}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def test_a_good_token_says_who_and_how_long() -> None:
    claims = verifier_of().check(signed(device="phone"))
    assert (claims.user, claims.device, claims.ttl) == ("u1", "phone", 60 + LEEWAY)


def test_clocks_may_differ_a_little() -> None:
    check(signed(exp=NOW - LEEWAY + 0.1))
    with pytest.raises(BadToken, match="expired"):
        check(signed(exp=NOW - LEEWAY))


@pytest.mark.parametrize("judge", [check, check_another])
@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "a" * 5000,
        signed(secret="another secret of about the same length, or so it seems to the reader"),
        signed(algorithm="HS512"),
        unsigned({"alg": "none"}),
        unsigned({"alg": "None"}),
        unsigned({"alg": "HS256"}),
        unsigned({}),
        signed(exp="soon"),
        signed(exp=None),
        signed(exp=True),
        signed(exp=float("inf")),
        signed(exp=float("nan")),
        signed(sub=""),
        signed(sub=7),
        signed(sub=None),
        signed(sub="u" * 257),
        signed(device=7),
        signed(device=""),
        signed(nbf=NOW + 3600),
        signed(nbf="now"),
        signed(iat=NOW + 3600),
        signed(iat="now"),
        signed(iat=float("inf")),
        signed(aud="somebody else"),
        signed(sub=["u1"]),
        signed(sub={"id": "u1"}),
        signed(jti=""),
        signed(jti=7),
        signed(exp=10**300),
        jwt.encode({"sub": "u1", "exp": NOW + 60}, SECRET, "HS256", headers={"crit": ["x"], "x": 1}),
        jwt.encode({"sub": "u1", "exp": NOW + 60}, "", "none"),
        KEY_OF_ITS_OWN,
        jwt.encode({"exp": NOW + 60}, SECRET, "HS256"),
        jwt.encode({"sub": "u1"}, SECRET, "HS256"),
        signed()[:-2],
        signed() + "é",
        signed() + "\ud800",
        signed().replace(".", ".\ud800", 1),
    ],
)
def test_a_bad_token_is_refused(token: str, judge: Callable[[str], object]) -> None:
    with pytest.raises(BadToken) as caught:
        judge(token)
    assert not token or len(token) < 4 or token not in str(caught.value)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"device": "phone", "iat": NOW, "jti": "t1"},
        {"sub": "ü", "more": {"of": ["what", 1]}},
        {"aud": []},
        {"nbf": NOW, "exp": NOW + 0.5},
    ],
    ids=str,
)
def test_the_second_token_is_read_as_the_first_one(claims: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = verifier_of()
    token = signed(**claims)
    first = verifier.check(token)
    monkeypatch.delattr(jwt, "get_unverified_header")
    assert verifier.check(token) == first


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "HS384", "none"])
def test_the_token_s_own_header_does_not_choose_the_algorithm(algorithm: str) -> None:
    with pytest.raises(BadToken, match="algorithm"):
        check(unsigned({"alg": algorithm, "typ": "JWT"}) + "c2ln")


def test_an_issuer_whose_clock_is_a_little_ahead_is_believed() -> None:
    check(signed(iat=NOW + LEEWAY - 0.1, nbf=NOW + LEEWAY - 0.1))
    with pytest.raises(BadToken, match="not valid yet"):
        check(signed(iat=NOW + LEEWAY + 0.1))


@pytest.mark.parametrize("claims", [{"sub": "u\ud800"}, {"device": "\udc00"}, {"jti": "\udfff\ud800"}])
def test_what_cannot_be_written_as_utf_8_is_no_claim(claims: dict[str, Any]) -> None:
    for judge in (check, check_another):
        with pytest.raises(BadToken):
            judge(signed(**claims))
    assert check(signed(sub="\U0001f600"))
