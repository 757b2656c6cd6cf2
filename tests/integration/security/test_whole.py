"""The whole path on servers that demand TLS, passwords and permissions, with TLS on the gateway's own port."""

from tests.integration.security.conftest import Deployment
from tests.terminal import Listener


def test_a_notification_reaches_a_device_through_secured_servers(deployment: Deployment) -> None:
    assert deployment.ready["gateway"].startswith("wss://")
    with Listener(deployment, "ann") as phone:
        phone.connected()
        sent = deployment.tocsin("send", "ann", "hello", "--key", "k1")
        assert sent.returncode == 0, sent.stderr
        (entry,) = phone.wait(1)
    assert entry["body"] == "hello"
    assert deployment.tocsin("send", "bob", "before", "--key", "k2").returncode == 0
    with Listener(deployment, "bob") as later:
        assert later.wait(1)[0]["id"] == "k2"


def test_a_client_that_knows_another_authority_does_not_connect(deployment: Deployment) -> None:
    stranger = str(deployment.floor.stranger.certificate)
    known = deployment.variables["SSL_CERT_FILE"]
    deployment.variables["SSL_CERT_FILE"] = stranger
    try:
        done = deployment.tocsin("listen", "ann")
    finally:
        deployment.variables["SSL_CERT_FILE"] = known
    assert done.returncode == 1
    assert "has a certificate that is not good" in done.stderr
    assert len(done.stderr.splitlines()) == 1
