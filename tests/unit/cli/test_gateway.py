"""What settings stop a gateway before it starts, in one line that names them."""

import pytest

from cli.gateway import gateway_config
from schemas.errors import SettingsError
from streams.settings import read_settings

SECRET = "s" * 32


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"TOCSIN_SECRET": ""}, "TOCSIN_SECRET"),
        ({"TOCSIN_ORIGINS": "example.com"}, "write https://example.com"),
        ({"TOCSIN_ORIGINS": "https://a.example/path"}, "write https://a.example"),
        ({"TOCSIN_ORIGINS": "https://*.example.com"}, "list each origin"),
        ({"TOCSIN_JWKS": "http://id.example/keys"}, "this machine only"),
        ({"TOCSIN_JWKS": "id.example"}, "write https://"),
        ({"TOCSIN_JWKS_CA": "/ca.pem"}, "TOCSIN_JWKS_CA has no effect"),
        ({"TOCSIN_KEYS": "/nowhere"}, "/nowhere"),
        ({"TOCSIN_SECRET": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"}, "no secret of HS256"),
        ({"TOCSIN_TOKEN_LIFE": "99999999"}, "TOCSIN_TOKEN_LIFE"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_setting_by_which_nobody_could_come_in_stops_the_start(settings: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        gateway_config(read_settings({"TOCSIN_SECRET": SECRET} | settings))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_kind_of_key_is_enough() -> None:
    assert gateway_config(read_settings({"TOCSIN_SECRET": SECRET})).secret == SECRET
    config = gateway_config(read_settings({"TOCSIN_JWKS": "https://id.example/keys", "TOCSIN_AUDIENCE": "a, b"}))
    assert (config.secret, config.rules.audience) == ("", ("a", "b"))


def test_without_any_key_it_does_not_start() -> None:
    with pytest.raises(SettingsError, match="TOCSIN_SECRET, TOCSIN_KEYS or TOCSIN_JWKS is needed"):
        gateway_config(read_settings({}))
