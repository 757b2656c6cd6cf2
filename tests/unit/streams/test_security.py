"""Settings of TLS and passwords: what goes together, what clients are made with, what is never shown."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import parse_url

from schemas.errors import SettingsError
from store.cluster import Address
from store.urls import parse
from streams.security import without_password
from streams.settings import IN_FILES, SECRET_NAMES, Settings, read_settings, redacted
from tests.integration.security.certificates import authority, certificate

CANARY = "hunter2-canary"
SASL = {
    "TOCSIN_KAFKA_SECURITY": "sasl_plaintext",
    "TOCSIN_KAFKA_USER": "u",
    "TOCSIN_KAFKA_PASSWORD": CANARY,
}  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TOCSIN_KAFKA_USER": "u"}, "have no effect with TOCSIN_KAFKA_SECURITY=plaintext"),
        ({"TOCSIN_KAFKA_PASSWORD": CANARY, "TOCSIN_KAFKA_SECURITY": "ssl"}, "have no effect with"),
        ({"TOCSIN_KAFKA_SECURITY": "sasl_ssl", "TOCSIN_KAFKA_USER": "u"}, "needs TOCSIN_KAFKA_USER and"),
        ({"TOCSIN_KAFKA_CA": "/ca.pem"}, "TOCSIN_KAFKA_CA, _CERT and _KEY have no effect"),
        ({**SASL, "TOCSIN_KAFKA_CERT": "/c.pem"}, "TOCSIN_KAFKA_CA, _CERT and _KEY have no effect"),
        ({"TOCSIN_KAFKA_SECURITY": "ssl", "TOCSIN_KAFKA_CERT": "/c.pem"}, "belong together"),
        ({"TOCSIN_KAFKA": f"u:{CANARY}@h:9092"}, "TOCSIN_KAFKA is host:port"),
        ({"TOCSIN_KAFKA_SASL": "GSSAPI"}, "TOCSIN_KAFKA_SASL: Invalid enum value"),
        ({"TOCSIN_REDIS": f"redis://:{CANARY}#x@h:6379/0"}, "TOCSIN_REDIS is malformed"),
        ({"TOCSIN_REDIS": f"redis:/u:{CANARY}@h"}, "TOCSIN_REDIS is malformed"),
        ({"TOCSIN_REDIS": f"http://{CANARY}@h"}, "TOCSIN_REDIS is malformed"),
        ({"TOCSIN_REDIS": f"redis://h/0?password={CANARY}"}, "TOCSIN_REDIS has the option password"),
        ({"TOCSIN_REDIS": "rediss://h/0?ssl_cert_reqs=none"}, "TOCSIN_REDIS has the option ssl_cert_reqs"),
        ({"TOCSIN_REDIS": "redis://h/0", "TOCSIN_REDIS_CA": "/ca.pem"}, "begins with rediss://"),
        ({"TOCSIN_REDIS": f"redis://u:{CANARY}@h/0", "TOCSIN_REDIS_PASSWORD": CANARY}, "given twice"),
        ({"TOCSIN_STORE_PASSWORD": CANARY}, "begins with cassandra://"),
        ({"TOCSIN_STORE": "cassandra://h/k", "TOCSIN_STORE_PASSWORD": CANARY}, "needs a user"),
        ({"TOCSIN_STORE": f"cassandra://u:{CANARY}@h/k", "TOCSIN_STORE_PASSWORD": CANARY}, "given twice"),
        ({"TOCSIN_STORE": "cassandra://h/k?tls=false", "TOCSIN_STORE_CA": "/ca.pem"}, "contradicts tls=false"),
        ({"TOCSIN_TLS_CERT": "/c.pem"}, "belong together"),
        ({"TOCSIN_SECRET_FILE": "/none"}, "TOCSIN_SECRET_FILE: /none cannot be read"),
        ({"TOCSIN_PORT_FILE": "/none"}, "TOCSIN_PORT_FILE is not a setting"),
        ({"TOCSIN_SECRET": CANARY}, "TOCSIN_SECRET: "),
    ],
)
def test_what_contradicts_itself_is_one_line_without_a_password(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        read_settings(variables)
    assert CANARY not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("field", IN_FILES)
def test_a_secret_may_lie_in_a_file(tmp_path: Path, field: str) -> None:
    value = {"redis": "redis://u:pw@h:1/0", "store": "sqlite:///x"}.get(field, "p" * 40)
    more = {"kafka_password": {**SASL}, "store_password": {"TOCSIN_STORE": "cassandra://u@h/k"}}.get(field, {})
    more.pop("TOCSIN_KAFKA_PASSWORD", None)
    file = tmp_path / "secret"
    file.write_text(f"{value}\n")
    name = f"TOCSIN_{field.upper()}"
    assert getattr(read_settings({**more, f"{name}_FILE": str(file)}), field) == value
    with pytest.raises(SettingsError, match="are both set"):
        read_settings({**more, f"{name}_FILE": str(file), name: value})
    file.write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        read_settings({**more, f"{name}_FILE": str(file)})


def test_the_environment_wins_over_a_secret_file_of_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("f" * 40)
    config = tmp_path / "tocsin.toml"
    config.write_text(f'TOCSIN_SECRET_FILE = "{tmp_path}/secret"\n')
    assert read_settings({"TOCSIN_CONFIG": str(config)}).secret == "f" * 40
    assert read_settings({"TOCSIN_CONFIG": str(config), "TOCSIN_SECRET": "e" * 40}).secret == "e" * 40


def test_kafka_is_reached_in_plain_text_unless_the_settings_say_otherwise() -> None:
    assert Settings(kafka="a:1,b:2").kafka_options() == {"bootstrap_servers": "a:1,b:2"}
    options = read_settings(SASL).kafka_options()
    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", CANARY)
    assert "ssl_context" not in options


def test_certificates_and_names_are_always_checked(tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours")
    pair = certificate(tmp_path, "client", ours, names="DNS:client")
    files: dict[str, Any] = {
        "kafka_ca": str(ours.certificate),
        "kafka_cert": str(pair.certificate),
        "kafka_key": str(pair.key),
    }
    context = Settings(kafka_security="ssl", **files).kafka_options()["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    wrong = {**files, "kafka_key": str(ours.key)}
    with pytest.raises(SettingsError, match="TOCSIN_KAFKA_CERT and TOCSIN_KAFKA_KEY"):
        Settings(kafka_security="ssl", **wrong).kafka_options()
    with pytest.raises(SettingsError, match="is not a certificate in PEM"):
        Settings(kafka_security="ssl", kafka_ca=str(ours.key)).kafka_options()
    with pytest.raises(SettingsError, match="TOCSIN_KAFKA_CA: /none cannot be read"):
        Settings(kafka_security="ssl", kafka_ca="/none").kafka_options()


@given(password=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40))
def test_a_password_of_any_characters_arrives_as_it_is(password: str) -> None:
    url = Settings(redis="rediss://user@h:6380/0", redis_password=password).redis_url()
    assert parse_url(url)["password"] == password
    found = parse(Settings(store="cassandra://user@h,g/k?dc=x", store_password=password).store_url())
    assert isinstance(found, Address)
    assert (found.user, found.password, len(found.hosts)) == ("user", password, 2)


def test_authorities_arrive(tmp_path: Path) -> None:
    file = tmp_path / "a & b?.pem"
    file.write_text("x")
    url = Settings(redis="rediss://h:6380/0", redis_ca=str(file)).redis_url()
    assert dict(parse_url(url))["ssl_ca_certs"] == str(file)
    for more in ("", "?replication=3"):
        found = parse(Settings(store=f"cassandra://h/k{more}", store_ca=str(file)).store_url())
        assert isinstance(found, Address)
        assert (found.tls, found.ca) == (True, str(file))


def test_no_secret_is_shown() -> None:
    values: dict[str, Any] = dict.fromkeys(SECRET_NAMES, CANARY * 4)
    settings = Settings(**values, redis=f"redis://u:{CANARY}@h", store=f"cassandra://u:{CANARY}@h/k")
    assert CANARY not in str(redacted(settings))
    assert CANARY not in repr(settings)
    assert CANARY not in f"{settings}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h/0", "redis://:***@h/0"),
        ("redis://u@h/0", "redis://u@h/0"),
        ("cassandra://u:a@b@h/k", "cassandra://u:***@h/k"),
        ("plain", "plain"),
    ],
)
def test_passwords_of_urls_are_blacked_out(url: str, shown: str) -> None:
    assert without_password(url) == shown


NO_ADDRESSES = [":::", "host:99999", "[::1", "a:b", "", ",", "h:1,,h:2", "ho st:1", "h:0", "x" * 64, "::1:9092", "h;i"]


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_addresses_of_kafka_that_cannot_be_any_are_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="TOCSIN_KAFKA is host:port separated by commas"):
        read_settings({"TOCSIN_KAFKA": address})


@pytest.mark.parametrize("address", ["h:1", "kafka-1.example:9092, 10.0.0.1:9093", "[::1]:9092,[fe80::1%e]:1", "h_1"])
def test_addresses_of_kafka_are_taken(address: str) -> None:
    assert read_settings({"TOCSIN_KAFKA": address}).kafka == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h/0?foo=bar", "has the option foo, which is not known"),
        ("redis://h/0?db=x", "Invalid value for 'db'"),
        ("redis://h/first", "ends with the number of a database"),
    ],
)
def test_a_redis_url_that_the_client_would_not_understand_is_refused(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        read_settings({"TOCSIN_REDIS": url})


def test_a_setting_that_is_no_text_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"'TOCSIN_URL' is not text in UTF-8"):
        read_settings({"TOCSIN_URL": "\udcff"})
