from pathlib import Path

import pytest

from schemas.errors import SettingsError
from store.cassandra import CassandraStore
from store.cassandra_migrations import CassandraMigrations, replication
from store.cluster import Address
from store.sqlite import SqliteStore
from store.sqlite_migrations import SqliteMigrations
from store.urls import migrations, open_store, parse
from streams.settings import Settings


@pytest.mark.parametrize("url", ["sqlite:///var/lib/tocsin.db", "sqlite:////var/lib/tocsin.db"])
def test_a_sqlite_url_names_an_absolute_path(url: str) -> None:
    assert parse(url) == Path("/var/lib/tocsin.db")


def test_the_url_of_the_settings_is_understood(tmp_path: Path) -> None:
    assert parse(Settings(data=str(tmp_path / "a b%20?")).store_url()) == tmp_path / "a b%20?" / "tocsin.db"


def test_a_short_cassandra_url_has_defaults() -> None:
    assert parse("cassandra://127.0.0.1/tocsin") == Address(hosts=(("127.0.0.1", 9042),), keyspace="tocsin")


def test_a_long_cassandra_url_says_everything() -> None:
    url = "cassandra://me:p%40ss@h1:1,[::1]:2,h3/ks_1?replication=3&dc=dc1&consistency=QUORUM"
    assert parse(url) == Address(
        hosts=(("h1", 1), ("::1", 2), ("h3", 9042)),
        keyspace="ks_1",
        user="me",
        password="p@ss",
        dc="dc1",
        replication=3,
        consistency="QUORUM",
    )


def test_the_url_chooses_the_store(tmp_path: Path) -> None:
    assert isinstance(open_store(f"sqlite://{tmp_path}/x"), SqliteStore)
    assert isinstance(migrations(f"sqlite://{tmp_path}/x"), SqliteMigrations)
    assert isinstance(open_store("cassandra://h/k"), CassandraStore)
    assert isinstance(migrations("cassandra://h/k"), CassandraMigrations)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "begins with neither"),
        ("postgres://h/db", "begins with neither"),
        ("sqlite://", "no file"),
        ("sqlite:///", "no file"),
        ("sqlite://relative/path", "no file"),
        ("sqlite:///folder/", "no file"),
        ("cassandra://h", "no keyspace"),
        ("cassandra://h/", "no keyspace"),
        ("cassandra://h/Big", "no keyspace"),
        ("cassandra://h/a;drop", "no keyspace"),
        ("cassandra:///k", "bad host"),
        ("cassandra://h:x/k", "bad host"),
        ("cassandra://h:0/k", "bad host"),
        ("cassandra://h:70000/k", "bad host"),
        ("cassandra://h,,g/k", "bad host"),
        ("cassandra://[h/k", "bad host"),
        ("cassandra://h/k#x", "malformed"),
        ("cassandra://h/k?replication=none", "bad replication"),
        ("cassandra://h/k?replication=0", "bad replication"),
        ("cassandra://h/k?consistency=SOME", "unknown consistency"),
        ("cassandra://h/k?colour=red", "unknown option 'colour'"),
        ("cassandra://h/k?dc", "malformed query"),
    ],
)
def test_a_bad_url_is_refused_in_one_line_that_names_the_setting(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        parse(url)
    assert "TOCSIN_STORE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_is_not_said() -> None:
    with pytest.raises(SettingsError) as caught:
        parse("cassandra://me:hidden@h:x/k")
    assert "hidden" not in str(caught.value)


def test_copies_are_counted_in_the_data_centre_if_one_is_named() -> None:
    address = Address(hosts=(("h", 1),), keyspace="k", replication=3)
    assert replication(address) == {"class": "SimpleStrategy", "replication_factor": 3}
    address = Address(hosts=(("h", 1),), keyspace="k", replication=3, dc="dc1")
    assert replication(address) == {"class": "NetworkTopologyStrategy", "dc1": 3}
