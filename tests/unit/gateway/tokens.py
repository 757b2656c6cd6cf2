"""Keys and tokens of every kind, made by the library, and by hand where the library would not make them."""

import base64
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth import Verifier
from gateway.claims import Rules
from gateway.keys import Key, Keyring

NOW = 1_800_000_000.0
PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "HS256": b"only the tests know this secret, and it is long enough",
}


def public(algorithm: str) -> Any:
    key = PRIVATE[algorithm]
    return key if algorithm == "HS256" else key.public_key()


def pem(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk(algorithm: str, key: Any = None, **more: Any) -> dict[str, Any]:
    made = jwt.algorithms.get_default_algorithms()[algorithm].to_jwk(key or public(algorithm), as_dict=True)
    return {**made, **more}


def key(algorithm: str, kid: str = "", *, named: bool = False) -> Key:
    return Key(algorithm, public(algorithm), kid=kid, source="test", named=named)


def token(algorithm: str, kid: str | None = None, *, by: Any = None, **claims: Any) -> str:
    headers = None if kid is None else {"kid": kid}
    said = {"sub": "u1", "exp": NOW + 60, **claims}
    return jwt.encode({k: v for k, v in said.items() if v is not None}, by or PRIVATE[algorithm], algorithm, headers)


def encoded(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def by_hand(header: object, claims: object, signature: bytes = b"") -> str:
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"


def verifier(*keys: Key, rules: Rules | None = None, fetched: tuple[Key, ...] = ()) -> Verifier:
    return Verifier(Keyring(keys, fetched), rules or Rules(), lambda: NOW)
