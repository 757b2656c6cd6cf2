"""Settings: where they come from, what is refused, what is shown."""

from pathlib import Path

import msgspec
import pytest

from schemas.errors import SettingsError
from streams.settings import Settings, descriptions, read_settings, redacted


def test_without_variables_everything_has_its_default() -> None:
    assert read_settings({"PATH": "/bin"}) == Settings()


def test_variables_become_the_types_of_the_settings() -> None:
    settings = read_settings({"TOCSIN_PORT": "9000", "TOCSIN_DRAIN": "2.5", "TOCSIN_PROFILE": "prod"})
    assert (settings.port, settings.drain, settings.profile) == (9000, 2.5, "prod")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOCSIN_PORT", "x"),
        ("TOCSIN_PORT", "65536"),
        ("TOCSIN_SECRET", "short"),
        ("TOCSIN_SECRET", ""),
        ("TOCSIN_PREFIX", "a b"),
        ("TOCSIN_PROFILE", "test"),
        ("TOCSIN_DRAIN", "0"),
        ("TOCSIN_DRAIN", "inf"),
        ("TOCSIN_DRAIN", "nan"),
        ("TOCSIN_SESSIONS", "0"),
        ("TOCSIN_LIMIT_BULK", "600"),
        ("TOCSIN_LIMIT_NORMAL", "0/60"),
        ("TOCSIN_LIMIT_CONNECTION", "many"),
        ("TOCSIN_LIMIT_WORKER", "5/0"),
        ("TOCSIN_LIMIT_ADDRESS", "5"),
        ("TOCSIN_LIMIT_USER", "1/-1"),
        ("TOCSIN_LIMIT_FRAMES", "x"),
        ("TOCSIN_LIMIT_SYNC", "1e9/1"),
        ("TOCSIN_LIMIT_READS", "/"),
        ("TOCSIN_ADDRESS_SESSIONS", "0"),
        ("TOCSIN_ADDRESS_OPENING", "many"),
        ("TOCSIN_PROXIES", "10.0.0.0/8, proxy.example"),
        ("TOCSIN_PROXIES", "10.0.0.0/33"),
        ("TOCSIN_LIMIT_EXEMPT", "localhost"),
    ],
)
def test_a_malformed_value_is_one_line_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_variable_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(SettingsError, match="TOCSIN_KAFKAS is not a setting; did you mean TOCSIN_KAFKA"):
        read_settings({"TOCSIN_KAFKAS": "x"})


def test_the_names_of_the_config_file_and_the_cache_are_no_settings() -> None:
    assert read_settings({"TOCSIN_CACHE": "/somewhere"}) == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tocsin.toml"
    file.write_text('TOCSIN_PORT = 9000\nTOCSIN_HOST = "10.0.0.1"\n')
    settings = read_settings({"TOCSIN_CONFIG": str(file), "TOCSIN_PORT": "9001"})
    assert (settings.port, settings.host) == (9001, "10.0.0.1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TOCSIN_PORT = ", "is not TOML"),
        ("PORT = 1", "PORT is not a setting"),
        ("TOCSIN_NOPE = 1", "TOCSIN_NOPE is not a setting"),
        ('TOCSIN_CONFIG = "x"', "TOCSIN_CONFIG is not a setting"),
        ('TOCSIN_PORT = "x"', "TOCSIN_PORT: "),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tocsin.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_settings({"TOCSIN_CONFIG": str(file)})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_settings({"TOCSIN_CONFIG": str(tmp_path / "none.toml")})


def test_secrets_and_passwords_are_not_shown() -> None:
    settings = Settings(
        secret="s" * 32, redis="redis://user:hunter2@host:6379/0", store="cassandra://u:hunter2@host/tocsin"
    )
    shown = redacted(settings)
    assert shown["secret"] == "***"
    assert shown["redis"] == "redis://user:***@host:6379/0"
    assert "hunter2" not in str(shown)
    assert "s" * 32 not in str(shown)


def test_addresses_without_a_password_are_shown_as_they_are() -> None:
    assert redacted(Settings())["redis"] == Settings().redis


def test_every_setting_has_help() -> None:
    helps = descriptions()
    assert set(helps) == {field.name for field in msgspec.structs.fields(Settings)}
    assert all(helps.values())


def test_the_store_lies_in_the_data_folder_unless_it_is_set(tmp_path: Path) -> None:
    assert Settings(data=str(tmp_path)).store_url() == f"sqlite:///{tmp_path / 'tocsin.db'}"
    assert Settings(store="cassandra://c/k").store_url() == "cassandra://c/k"


SERVICE_LINKS = {
    "TOCSIN_SERVICE_HOST": "10.0.0.1",
    "TOCSIN_SERVICE_PORT": "8080",
    "TOCSIN_SERVICE_PORT_METRICS": "9090",
    "TOCSIN_PORT": "tcp://10.0.0.1:8080",
    "TOCSIN_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "TOCSIN_PORT_8080_TCP_PROTO": "tcp",
    "TOCSIN_PORT_8080_TCP_PORT": "8080",
    "TOCSIN_PORT_8080_TCP_ADDR": "10.0.0.1",
    "TOCSIN_METRICS_PORT": "tcp://10.0.0.2:9090",
    "TOCSIN_METRICS_SERVICE_HOST": "10.0.0.2",
    "TOCSIN_KAFKA_BOOTSTRAP_SERVICE_PORT": "9092",
    "TOCSIN_KAFKA_PORT_9092_UDP": "udp://10.0.0.3:9092",
    "TOCSIN_GATEWAY_PORT": "sctp://10.0.0.4:1",
}


def test_what_kubernetes_sets_for_services_of_such_names_is_no_setting() -> None:
    assert read_settings(SERVICE_LINKS) == Settings()
    assert read_settings(SERVICE_LINKS | {"TOCSIN_PORT": "9000"}).port == 9000


@pytest.mark.parametrize("name", ["TOCSIN_SERVICE", "TOCSIN_PORTS", "TOCSIN_PORT_8080", "TOCSIN_KAFKA_HOST"])
def test_what_only_looks_like_it_is_refused_still(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is not a setting"):
        read_settings({name: "1"})


def test_networks_are_listed_by_commas_and_may_be_none_or_single_addresses() -> None:
    settings = read_settings({"TOCSIN_PROXIES": " 10.1.2.3/8, 2001:db8::/32 ,192.0.2.7,", "TOCSIN_LIMIT_EXEMPT": ""})
    assert list(map(str, settings.networks("proxies"))) == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"]
    assert settings.networks("limit_exempt") == ()
