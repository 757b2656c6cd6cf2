"""What `tocsin config` prints."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.config import as_document, as_toml
from streams.settings import SECRET_NAMES, Settings, read_settings

FULL = Settings(
    secret="s" * 32, redis="redis://u:hunter2@h/0", store="cassandra://u:hunter3@h/k", kafka_security="sasl_ssl",
    kafka_user="k", kafka_password="hunter4", store_password=""
)  # fmt: skip


def values_of(settings: Settings) -> Mapping[str, Any]:
    return tomllib.loads("\n".join(as_toml(settings)))


def test_the_printed_file_is_one_that_can_be_read_again() -> None:
    settings = Settings(port=9000, host="10.0.0.1", drain=2.5)
    values = values_of(settings)
    assert values == {"TOCSIN_PORT": 9000, "TOCSIN_HOST": "10.0.0.1", "TOCSIN_DRAIN": 2.5}
    assert read_settings({name: str(value) for name, value in values.items()}) == settings


def test_every_line_that_is_commented_out_is_valid_too() -> None:
    lines = [line.removeprefix("# ") for line in as_toml(Settings()) if line.startswith("# TOCSIN_")]
    assert len(tomllib.loads("\n".join(lines))) == len(lines) == len(Settings.__struct_fields__)


def test_what_holds_a_secret_is_not_printed_and_nothing_stands_in_its_place() -> None:
    text = "\n".join(as_toml(FULL)) + msgspec.json.encode(as_document(FULL)).decode()
    for secret in ("s" * 32, "hunter2", "hunter3", "hunter4"):
        assert secret not in text
    assert "***" not in text
    assert {"TOCSIN_SECRET", "TOCSIN_REDIS", "TOCSIN_STORE", "TOCSIN_KAFKA_PASSWORD"}.isdisjoint(values_of(FULL))
    assert "# TOCSIN_REDIS is set and holds a secret: it is not printed; TOCSIN_REDIS_FILE may name a file with it" in (
        as_toml(FULL)
    )


def test_what_was_printed_with_the_secrets_given_again_is_the_same() -> None:
    secrets = {f"TOCSIN_{name.upper()}": getattr(FULL, name) for name in (*SECRET_NAMES, "redis", "store")}
    again = {**values_of(FULL), **{name: value for name, value in secrets.items() if value}}
    assert read_settings({name: str(value) for name, value in again.items()}) == FULL


@pytest.mark.parametrize("url", ["redis://u:p%1b@h/0", "redis://:hunter2@h:1/0"])
def test_any_password_hides_its_url(url: str) -> None:
    document = as_document(Settings(redis=url))
    assert (document["TOCSIN_REDIS"].value, document["TOCSIN_REDIS"].hidden) == (None, True)


def test_keys_of_tokens_are_told_by_name_only(tmp_path: Path) -> None:
    (tmp_path / "2025.txt").write_text("o" * 40)
    shown = "\n".join(as_toml(Settings(secret="s" * 32, keys=str(tmp_path))))
    assert shown.startswith("# key of tokens: HS256 (no kid) from TOCSIN_SECRET\n# key of tokens: HS256 2025 from ")
    assert "ooo" not in shown
    tomllib.loads(shown)


def test_json_has_value_default_and_help() -> None:
    port = as_document(Settings(port=9000))["TOCSIN_PORT"]
    assert (port.value, port.default, port.hidden) == (9000, 8080, False)
    assert port.help
