"""Which servers `tocsin up` starts and which are somebody's own."""

from typing import Any

import pytest

from cli.choosing import Choice, choose
from schemas.errors import SettingsError
from stack.assembly import Kinds

SASL = {"kafka_security": "sasl_ssl", "kafka_user": "u", "kafka_password": "p"}


@pytest.mark.parametrize(
    ("choice", "values", "kinds"),
    [
        ({}, {}, Kinds()),
        ({"stack": "embedded"}, {}, Kinds()),
        ({"stack": "real"}, {}, Kinds("real", "real", "real")),
        ({"stack": "real", "kafka": "real"}, {}, Kinds("real", "real", "real")),
        ({"kafka": "b:9092"}, {}, Kinds("own", "embedded", "embedded")),
        ({"kafka": "real", "store": "real"}, {}, Kinds("real", "embedded", "real")),
        ({}, {"kafka": "b:9092"}, Kinds("own", "embedded", "embedded")),
        ({}, SASL, Kinds("own", "embedded", "embedded")),  # the Kafka of the default address, and how to get in
        ({}, {"kafka": "b:1", "redis": "redis://r/0", "store": "sqlite:///s"}, Kinds("own", "own", "own")),
        ({"kafka": "embedded"}, {"kafka": "b:9092", **SASL}, Kinds()),
        ({"stack": "embedded"}, {"store": "", "kafka_security": "plaintext", "kafka_user": ""}, Kinds()),
    ],
)
def test_an_option_wins_over_the_settings_and_what_neither_names_is_embedded(
    choice: dict[str, Any], values: dict[str, Any], kinds: Kinds
) -> None:
    assert choose(Choice(**choice), values)[0] == kinds


@pytest.mark.parametrize(
    ("choice", "field", "address"),
    [
        ({"kafka": "b:9092"}, "kafka", "b:9092"),
        ({"kafka": "kafka://b:9092"}, "kafka", "b:9092"),
        ({"kafka": "a:1,[::1]:2"}, "kafka", "a:1,[::1]:2"),
        ({"redis": "r:6379"}, "redis", "redis://r:6379/0"),
        ({"redis": "[::1]:6379"}, "redis", "redis://[::1]:6379/0"),
        ({"redis": "rediss://:pw@r:6379/1"}, "redis", "rediss://:pw@r:6379/1"),
        ({"store": "cassandra://c:9042/tocsin"}, "store", "cassandra://c:9042/tocsin"),
        ({"store": "sqlite:///s.db"}, "store", "sqlite:///s.db"),
    ],
)
def test_an_address_of_ones_own_becomes_the_setting(choice: dict[str, Any], field: str, address: str) -> None:
    part = next(iter(choice))
    kinds, settings = choose(Choice(**choice), {"kafka": "other:1", "redis": "redis://other", "store": "sqlite:///o"})
    assert getattr(kinds, part) == "own"
    assert getattr(settings, field) == address


def test_how_to_get_in_goes_with_an_address_of_ones_own_and_not_with_a_server_that_is_started() -> None:
    assert choose(Choice(kafka="b:9092"), SASL)[1].kafka_user == "u"
    assert choose(Choice(kafka="embedded"), SASL)[1].kafka_user == ""


@pytest.mark.parametrize(
    ("choice", "values", "says"),
    [
        (
            {"stack": "embedded", "kafka": "real"}, {},
            "--stack embedded and --kafka real contradict .* --kafka real --redis embedded --store embedded",
        ),
        (
            {"stack": "real", "kafka": "b:9092", "redis": "embedded"}, {},
            "--stack real and --kafka b:9092 .* without it: --kafka b:9092 --redis embedded --store real",
        ),
        ({"stack": "real", "redis": "redis://:pw@r"}, {}, "--stack real and --redis URL contradict"),
        (
            {"stack": "real"}, {"kafka": "b:9092"},
            "TOCSIN_KAFKA is set, but --stack real starts a Kafka .* unset it, .*: --redis real --store real",
        ),
        ({"stack": "embedded"}, {"redis": "redis://:pw@r"}, "TOCSIN_REDIS is set.*--kafka embedded --store embedded"),
        ({"stack": "embedded"}, {"store": "sqlite:///s"}, "TOCSIN_STORE is set, but --stack embedded starts a store"),
        ({"stack": "embedded"}, SASL, "TOCSIN_KAFKA_SECURITY is set"),
        ({"stack": "embedded"}, {"redis_password": "pw"}, "TOCSIN_REDIS_PASSWORD is set"),
        ({"stack": "embedded"}, {"idempotence": "true"}, "TOCSIN_IDEMPOTENCE is true, but the embedded Kafka"),
        ({}, {"idempotence": "true"}, "TOCSIN_IDEMPOTENCE is true, but the embedded Kafka"),
        ({"kafka": "b:9092", "kafka_port": 1}, {}, "--kafka-port is for a Kafka that `up` starts"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_an_error_that_says_what_to_write(
    choice: dict[str, Any], values: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        choose(Choice(**choice), values)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "choice",
    [
        {"kafka": "embeded"}, {"kafka": "9092"}, {"kafka": "b"}, {"kafka": "b:0"}, {"kafka": "b:65536"},
        {"kafka": "::1:9092"}, {"kafka": "http://b:9092"}, {"kafka": "u:pw@b:9092"}, {"kafka": ""}, {"kafka": "a:1,"},
        {"redis": "reel"}, {"redis": "http://r"}, {"redis": "redis://r:x"}, {"redis": "redis://:pw#@r"}, {"redis": ""},
        {"store": "sqlite"}, {"store": "postgres://u:pw@h/d"}, {"store": "cassandra://c"}, {"store": "sqlite:///"},
    ],
)  # fmt: skip
def test_a_malformed_address_is_one_line_that_names_the_option_and_shows_no_password(choice: dict[str, Any]) -> None:
    (part,) = choice
    with pytest.raises(SettingsError) as caught:
        choose(Choice(**choice), {})
    assert f"--{part}" in str(caught.value)
    assert "TOCSIN_" not in str(caught.value)
    assert "pw" not in str(caught.value)
