"""Tokens."""

import time

import jwt
import pytest

from cli.tokens import make_token
from schemas.errors import SettingsError

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
