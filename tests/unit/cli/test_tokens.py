"""Tokens."""

import time
from pathlib import Path

import jwt
import pytest

from cli.gateway import rules_of
from cli.tokens import make_token, token_by_settings
from gateway.auth import Verifier
from gateway.keys import Keyring, given_keys
from schemas.errors import SettingsError
from streams.settings import Settings

SECRET = "s" * 32


def test_a_token_names_user_device_and_end() -> None:
    claims = jwt.decode(make_token(SECRET, "u1", device="phone", ttl=60), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["device"]) == ("u1", "phone")
    assert 55 < claims["exp"] - time.time() <= 60


def test_without_a_device_there_is_no_claim() -> None:
    assert "device" not in jwt.decode(make_token(SECRET, "u1"), SECRET, algorithms=["HS256"])


def test_a_token_of_nobody_is_refused() -> None:
    with pytest.raises(SettingsError):
        make_token(SECRET, "")


def test_a_gateway_with_these_settings_takes_it(tmp_path: Path) -> None:
    (tmp_path / "2025.txt").write_text("o" * 40)
    settings = Settings(secret=SECRET, keys=str(tmp_path), audience="app, web", issuer="https://id.example")
    judge = Verifier(Keyring(given_keys(SECRET, [str(tmp_path)])), rules_of(settings))
    for kid in (None, "2025"):
        token = token_by_settings(settings, "u1", device="d", ttl=60, kid=kid)
        assert judge.check(token).device == "d"
        assert jwt.get_unverified_header(token).get("kid") == kid


@pytest.mark.parametrize(
    ("ttl", "kid", "said"), [(86_401, None, "TOCSIN_TOKEN_LIFE"), (60, "other", "named other")], ids=["life", "kid"]
)
def test_what_no_gateway_would_take_is_not_made(ttl: float, kid: str | None, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        token_by_settings(Settings(secret=SECRET), "u1", ttl=ttl, kid=kid)
