"""Certificates as an operator has them: an authority, and what it signed, all made by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple

_SIGNED = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[extensions]
basicConstraints = {basic}
subjectKeyIdentifier = hash
{more}
"""


class Pair(NamedTuple):
    """Files in PEM: a certificate and its key."""

    certificate: Path
    key: Path

    def together(self) -> Path:
        """Return one file with both, as Kafka wants it."""
        path = self.key.with_suffix(".both.pem")
        path.write_text(self.key.read_text() + self.certificate.read_text())
        return path

    def pkcs12(self, password: str) -> Path:
        """Return a keystore with both, as Cassandra wants it."""
        path = self.key.with_suffix(".p12")
        _openssl("pkcs12", "-export", "-inkey", self.key, "-in", self.certificate, "-name", "server",
                 "-out", path, "-passout", f"pass:{password}")  # fmt: skip
        return path


def authority(folder: Path, name: str) -> Pair:
    """Make an authority that signs certificates."""
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    settings = _settings(folder, name, "critical,CA:TRUE", "keyUsage = critical,keyCertSign,cRLSign")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config", settings,
             "-extensions", "extensions", "-keyout", made.key, "-out", made.certificate)  # fmt: skip
    return made


def certificate(folder: Path, name: str, by: Pair, *, names: str) -> Pair:
    """Make a certificate that `by` signs, for `names` such as `IP:127.0.0.1,DNS:localhost`."""
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    settings = _settings(folder, name, "CA:FALSE", f"subjectAltName = {names}\nauthorityKeyIdentifier = keyid")
    request = folder / f"{name}.csr"
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-config", settings, "-keyout", made.key, "-out", request)
    _openssl("x509", "-req", "-days", "2", "-in", request, "-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial",
             "-extfile", settings, "-extensions", "extensions", "-out", made.certificate)  # fmt: skip
    return made


def _settings(folder: Path, name: str, basic: str, more: str) -> Path:
    path = folder / f"{name}.cnf"
    path.write_text(_SIGNED.format(name=name, basic=basic, more=more))
    return path


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
