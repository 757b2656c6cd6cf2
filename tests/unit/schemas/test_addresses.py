"""How addresses are written and read."""

import pytest

from schemas.addresses import bare, host_port


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("kafka-1.example", "kafka-1.example:80"),
        ("::1", "[::1]:80"),
        ("[::1]", "[::1]:80"),
    ],
)
def test_a_port_follows_an_ipv6_address_in_brackets(host: str, written: str) -> None:
    assert host_port(host, 80) == written


@pytest.mark.parametrize(("written", "host"), [("[::1]", "::1"), ("::1", "::1"), ("a.b", "a.b"), ("", "")])
def test_sockets_take_a_host_without_brackets(written: str, host: str) -> None:
    assert bare(written) == host
