import socket
import subprocess
import sys

import pytest

from schemas.errors import ServerFailed
from stack import assembly, ports
from stack.assembly import Size, gateway_port, gateway_url


def test_free_ports_differ_and_can_be_listened_on() -> None:
    found = ports.free_ports(20)
    assert len(set(found)) == 20
    assert all(ports.is_free(port) for port in found)


def test_two_processes_are_never_given_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; from stack.ports import free_port; print(free_port(), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout
        theirs = int(other.stdout.readline())
        block = range(theirs - (theirs - ports._BLOCKS.start) % ports._BLOCK, theirs + ports._BLOCK, ports._BLOCK)[:1]
        monkeypatch.setattr(ports, "_BLOCKS", block)
        own = ports._Own()
        monkeypatch.setattr(ports, "_own", own)
        with pytest.raises(ServerFailed):
            ports.free_port()
        other.stdin.close()
    assert ports.free_port() in range(block[0], block[0] + ports._BLOCK)  # the claim went with its process
    for claim in own._claims:
        claim.close()


def test_a_port_is_given_again_only_after_the_others() -> None:
    given = [ports.free_port() for _ in range(ports._BLOCK // 2)]
    assert len(set(given)) == len(given)


def test_a_port_that_is_listened_on_is_not_free(free_port: int) -> None:
    with socket.create_server((ports.LOOPBACK, free_port)):
        assert not ports.is_free(free_port)
    assert ports.is_free(free_port)


def test_a_port_that_others_share_is_not_free_either(free_port: int) -> None:
    with socket.create_server((ports.LOOPBACK, free_port), reuse_port=True):
        assert not ports.is_free(free_port)


def test_no_free_port_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_bound", lambda host, port: None)
    monkeypatch.setattr(ports, "_claimed", lambda first: None)  # else this process would keep them all
    with pytest.raises(ServerFailed, match="no free port"):
        ports.free_port()


def test_a_gateway_port_that_is_taken_is_refused_with_what_to_do(free_port: int) -> None:
    assert gateway_port(ports.LOOPBACK, free_port) == free_port
    with (
        socket.create_server((ports.LOOPBACK, free_port)),
        pytest.raises(ServerFailed, match=rf"port {free_port} is taken by another process; .*--port"),
    ):
        gateway_port(ports.LOOPBACK, free_port)


def test_a_port_that_another_starting_deployment_chose_is_refused(free_port: int) -> None:
    """Its gateways listen only seconds later, and they would share the port with ours."""
    choose = f"print(gateway_port('127.0.0.1', {free_port}), flush=True)"
    program = f"import sys; from stack.assembly import gateway_port; {choose}; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout
        assert int(other.stdout.readline()) == free_port
        with pytest.raises(ServerFailed, match=rf"port {free_port} is taken by another `tocsin up`"):
            gateway_port(ports.LOOPBACK, free_port)
        other.stdin.close()
    assert gateway_port(ports.LOOPBACK, free_port) == free_port


def test_an_address_that_is_not_of_this_machine_is_not_called_taken(free_port: int) -> None:
    with pytest.raises(ServerFailed, match=rf"nothing can listen on 192\.0\.2\.1:{free_port}: Cannot assign"):
        gateway_port("192.0.2.1", free_port)
    with pytest.raises(ServerFailed, match=rf"nothing can listen on \[2001:db8::1\]:{free_port}: "):
        gateway_port("2001:db8::1", free_port)


def test_kafka_takes_its_usual_port_if_that_is_free(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setattr(assembly, "KAFKA_PORT", free_port)
    with socket.create_server((ports.LOOPBACK, free_port)):
        assert assembly.kafka_port(None) != free_port
        with pytest.raises(ServerFailed, match=rf"port {free_port} is taken by another process; .*--kafka-port"):
            assembly.kafka_port(free_port)
    assert assembly.kafka_port(None) == free_port
    assert assembly.kafka_port(0) not in (0, free_port)


def test_zero_is_any_free_gateway_port() -> None:
    assert gateway_port(ports.LOOPBACK, 0) > 0


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "ws://127.0.0.1:8080"),
        ("0.0.0.0", "ws://127.0.0.1:8080"),
        ("::1", "ws://[::1]:8080"),
        ("push.example.org", "ws://push.example.org:8080"),
    ],
)
def test_the_url_of_the_gateways_can_be_used_from_this_machine(host: str, url: str) -> None:
    assert gateway_url(Size(workers=1, gateways=1, host=host, port=8080, drain=1.0)) == url
