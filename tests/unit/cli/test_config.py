"""What `tocsin config` prints."""

import json
import tomllib

from cli.config import as_json, as_toml
from streams.settings import Settings, read_settings


def test_the_printed_file_is_one_that_can_be_read_again(tmp_path: object) -> None:
    settings = Settings(port=9000, host="10.0.0.1", drain=2.5)
    values = tomllib.loads(as_toml(settings))
    assert values == {"TOCSIN_PORT": 9000, "TOCSIN_HOST": "10.0.0.1", "TOCSIN_DRAIN": 2.5}
    assert read_settings({name: str(value) for name, value in values.items()}) == settings


def test_every_line_that_is_commented_out_is_valid_too() -> None:
    lines = [line.removeprefix("# ") for line in as_toml(Settings()).splitlines() if line.startswith("# TOCSIN_")]
    assert len(tomllib.loads("\n".join(lines))) == len(lines) == len(Settings.__struct_fields__)


def test_secrets_are_blacked_out() -> None:
    settings = Settings(secret="s" * 32, redis="redis://u:hunter2@h/0")
    assert "s" * 32 not in as_toml(settings) + as_json(settings)
    assert "hunter2" not in as_toml(settings) + as_json(settings)


def test_json_has_value_default_and_help() -> None:
    port = json.loads(as_json(Settings(port=9000)))["TOCSIN_PORT"]
    assert (port["value"], port["default"]) == (9000, 8080)
    assert port["help"]
