"""Which tokens are refused, whatever order revocations come in."""

from itertools import permutations

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.revoke import revocation_of
from gateway.auth import Claims, Verifier, token_name
from gateway.claims import Rules
from gateway.keys import Keyring, secret_key
from gateway.revocations import SLACK, Revocations
from schemas.errors import BadRecord, BadToken
from schemas.records import Revocation, decode_revocation, encode

SECRET = "only the tests know this secret, and it is long enough for every HMAC"
NOW = 1_800_000_000.0


def of_user(at: float, until: float = 1e9) -> Revocation:
    return Revocation(at=at, until=until, user="u")


def claims(issued: float = 0.0, token: str = "t") -> Claims:
    return Claims("u", None, 60, issued, token)


def test_what_was_issued_up_to_then_is_refused_and_what_comes_after_is_not() -> None:
    revocations = Revocations()
    assert revocations.take(of_user(100), 0)
    assert [revocations.refuses(claims(issued)) for issued in (0, 99, 100, 100.1)] == [True, True, True, False]
    assert not revocations.refuses(Claims("other", None, 60, 0, "t"))


def test_one_token_is_refused_by_its_name() -> None:
    revocations = Revocations()
    revocations.take(Revocation(at=100, until=200, token="a"), 0)
    assert revocations.refuses(claims(1e6, "a"))
    assert not revocations.refuses(claims(1e6, "b"))


def test_it_is_forgotten_once_it_concerns_nothing() -> None:
    revocations = Revocations()
    revocations.take(of_user(1, until=100), 50)
    revocations.forget(100 + SLACK - 1)
    assert len(revocations) == 1
    revocations.forget(100 + SLACK)
    assert len(revocations) == 0
    assert not revocations.take(of_user(1, until=100), 100 + SLACK)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(51, 99)), min_size=1, max_size=4), st.integers(0, 60))
def test_the_order_does_not_matter(given_: list[tuple[int, int]], issued: int) -> None:
    verdicts = set()
    for order in permutations(given_):
        revocations = Revocations()
        for at, until in (*order, *order):
            revocations.take(of_user(at, until), 0)
        verdicts.add(revocations.refuses(claims(issued)))
    assert verdicts == {issued <= max(at for at, _ in given_)}


def signed(**more: object) -> str:
    return jwt.encode({"sub": "u", "exp": NOW + 60, **more}, SECRET, "HS256")


@pytest.mark.parametrize("more", [{}, {"jti": "j1"}])
def test_a_token_that_was_named_is_refused_with_its_reason(more: dict[str, str]) -> None:
    token = signed(**more)
    revocations = Revocations()
    verifier = Verifier(Keyring([secret_key(SECRET)]), Rules(), lambda: NOW, refuses=revocations.refuses)
    verifier.check(token)
    revocations.take(revocation_of(token, NOW), NOW)
    with pytest.raises(BadToken, match="revoked"):
        verifier.check(token)
    verifier.check(signed(jti="another"))


def test_another_text_of_the_same_signature_does_not_help() -> None:
    token = signed()
    last = token[-1]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = token[:-1] + letters[letters.index(last) ^ 1]
    assert twin != token
    assert token_name(twin) == token_name(token)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", signed(exp="soon"), signed(exp=1)])
def test_what_is_no_good_token_is_not_revoked(token: str) -> None:
    with pytest.raises(BadToken, match="nothing to revoke"):
        revocation_of(token, NOW)


def test_a_record_names_a_user_or_a_token() -> None:
    record = of_user(1)
    assert decode_revocation(encode(record)) == record
    assert (record.key, Revocation(at=1, until=2, token="t").key) == (b"user:u", b"token:t")
    for value in (None, b"{", b'{"at":1,"until":2}', b'{"at":1,"until":2,"user":"u","token":"t"}'):
        with pytest.raises(BadRecord):
            decode_revocation(value)
