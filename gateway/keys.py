"""The keys that tokens are signed with: read from secrets, PEM, JWK and JWKS, and found by what a token names.

A key has one algorithm, which follows from its type. What the header of a token asks for never changes that, so a
public key is never taken for the secret of HS256.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError
from jwt.utils import base64url_decode

from schemas.errors import BadKey, SettingsError

ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")
LEAST_SECRET: Final = 32  # bytes of a secret of HS256
RSA_BITS: Final = range(2048, 8193)  # fewer are weak; more make one token costly to check
MAX_KEYS: Final = 32  # of one source: a token without `kid` may be tried with each of its algorithm
MAX_FILE: Final = 256 * 1024  # bytes of a file of keys
SETTING: Final = "TOCSIN_KEYS"

_algorithms: Final = get_default_algorithms()


class Key:
    """One key: `kid` is its name in tokens, `source` where it comes from.

    A key is `named` if its `kid` stands in the key itself. Other keys also answer for a `kid` that nobody knows.
    """

    __slots__ = ("_algorithm", "algorithm", "kid", "material", "named", "source")

    def __init__(self, algorithm: str, material: Any, *, kid: str, source: str, named: bool = False) -> None:
        self.algorithm = algorithm
        self.material = material
        self.kid = kid
        self.source = source
        self.named = named
        self._algorithm = _algorithms[algorithm]

    def signed(self, text: bytes, signature: str) -> bool:
        """Tell whether `signature`, base64url as a token has it, is this key's of `text`. Raises `ValueError`."""
        if self.algorithm == "HS256":
            right = urlsafe_b64encode(hmac.digest(self.material, text, "sha256")).rstrip(b"=")
            return hmac.compare_digest(right, signature.encode())
        return bool(self._algorithm.verify(text, self.material, base64url_decode(signature)))

    def shown(self) -> str:
        """Return it for people: never what it consists of."""
        return f"{self.algorithm} {ascii(self.kid)[1:-1] or '(no kid)'} from {self.source}"

    def __repr__(self) -> str:
        return f"Key({self.shown()})"


class Keyring:
    """All keys that count now. `given` come from settings, `fetched` from the JWKS address.

    `keys` is another tuple after each change, so that who remembers something about keys sees that it is old.
    """

    def __init__(self, given: Sequence[Key] = (), fetched: Sequence[Key] = ()) -> None:
        self._given = tuple(given)
        self._fetched = tuple(fetched)
        self.keys = self._given + self._fetched

    def give(self, given: Sequence[Key]) -> None:
        """Take the keys of the settings anew."""
        self._given = tuple(given)
        self.keys = self._given + self._fetched

    def fetch(self, fetched: Sequence[Key]) -> None:
        """Take the keys of the JWKS address anew."""
        self._fetched = tuple(fetched)
        self.keys = self._given + self._fetched

    def names(self, kid: str) -> bool:
        """Tell whether a key has this name."""
        return any(key.kid == kid for key in self.keys)

    def find(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """Return the keys of an algorithm by which a token that names `kid` may have been signed."""
        pool: Iterable[Key] = self.keys
        if kid is not None:
            pool = [key for key in pool if (key.kid == kid if self.names(kid) else not key.named)]
        return tuple(key for key in pool if key.algorithm == algorithm)


def secret_key(secret: str, *, setting: str = "TOCSIN_SECRET", kid: str = "") -> Key:
    """Return the key of HS256 that a text is. Raises `SettingsError` where it is the text of another kind of key."""
    try:
        return Key("HS256", _secret(secret.encode()), kid=kid, source=setting)
    except (BadKey, UnicodeError) as exc:
        raise SettingsError(f"{setting}: {exc}") from None


def _secret(material: bytes) -> bytes:
    if len(material) < LEAST_SECRET:
        raise BadKey(f"a secret of HS256 has at least {LEAST_SECRET} bytes")
    if b"-----BEGIN" in material or material.startswith((b"ssh-", b"ecdsa-")):
        # whoever knows the public key could sign with it
        raise BadKey(f"a key in PEM or of SSH is no secret of HS256; name the file of a public key in {SETTING}")
    return material


def given_keys(secret: str, paths: Iterable[str]) -> list[Key]:
    """Return the keys that settings name: the secret, if there is one, and those in files. Raises `SettingsError`."""
    return [*([secret_key(secret)] if secret else ()), *read_keys(paths)]


def read_keys(paths: Iterable[str]) -> list[Key]:
    """Return the keys in files and folders. Raises `SettingsError` in one line that names the file."""
    keys: list[Key] = []
    for path in paths:
        for file in _files(Path(path)):
            try:
                keys += keys_in(_content(file), kid=file.stem, source=str(file))
            except BadKey as exc:
                raise SettingsError(f"{SETTING}: {file}: {exc}") from None
    if len(keys) > MAX_KEYS:
        raise SettingsError(f"{SETTING}: {len(keys)} keys are more than {MAX_KEYS}; take out those that sign no more")
    return keys


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as exc:
        raise SettingsError(f"{SETTING}: {path} cannot be read: {exc.strerror}") from None
    return found


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE + 1)
    except OSError as exc:
        raise BadKey(f"it cannot be read: {exc.strerror}") from None
    if len(content) > MAX_FILE:
        raise BadKey(f"it has more than {MAX_FILE} bytes")
    return content.strip()


def keys_in(content: bytes, *, kid: str, source: str) -> list[Key]:
    """Return the keys of a file: a public key or certificate in PEM, a JWK, a JWKS, or the text of a secret.

    `kid` is for what has no name of its own. Raises `BadKey`.
    """
    if content.startswith(b"{"):
        keys, reasons = jwks_keys(content, source=source, kid=kid)
        if not keys:
            raise BadKey("; ".join(reasons) or "it holds no key")
        return keys
    if b"-----BEGIN" in content:
        algorithm, material = _of_public_key(_from_pem(content))
        return [Key(algorithm, material, kid=kid, source=source)]
    if not content.isascii() or len(content.split()) != 1:
        raise BadKey("it is no public key in PEM, no JWK, no JWKS and no secret in one line")
    return [Key("HS256", _secret(content), kid=kid, source=source)]


def jwks_keys(content: bytes, *, source: str, kid: str = "", secrets: bool = True) -> tuple[list[Key], list[str]]:
    """Return the usable keys of a JWK or JWKS, and why others are not. Raises `BadKey` for what is neither.

    `secrets`: keys of HS256 count as well. They do not where everybody can read the set.
    """
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadKey("it is not JSON") from None
    entries = document.get("keys", [document]) if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadKey("it is no JWK and no JWKS")
    keys: list[Key] = []
    reasons: list[str] = []
    for number, entry in enumerate(entries[: 4 * MAX_KEYS]):
        try:
            keys.append(_from_jwk(entry, source=source, kid=kid, secrets=secrets))
        except BadKey as exc:
            reasons.append(f"key {number + 1}: {exc}")
    if len(keys) > MAX_KEYS:
        reasons.append(f"only the first {MAX_KEYS} keys count")
    return keys[:MAX_KEYS], reasons


def _from_jwk(jwk: Mapping[str, Any], *, source: str, kid: str, secrets: bool) -> Key:
    name = jwk.get("kid")
    if name is not None and not isinstance(name, str):
        raise BadKey("`kid` is no string")
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ("verify",)):
        raise BadKey("it is not for signatures (`use`, `key_ops`)")
    algorithm, material = _of_jwk(jwk, secrets=secrets)
    if jwk.get("alg", algorithm) != algorithm:
        raise BadKey(f"its `alg` is none of {', '.join(ALGORITHMS)}, or not for its type of key")
    return Key(algorithm, material, kid=kid if name is None else name, source=source, named=name is not None)


def _of_jwk(jwk: Mapping[str, Any], *, secrets: bool) -> tuple[str, Any]:
    kinds = {("oct", None): "HS256", ("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
    algorithm = next((name for kind, name in kinds.items() if kind == (jwk.get("kty"), jwk.get("crv"))), None)
    if algorithm is None:
        raise BadKey("its type (`kty`, `crv`) is none of oct, RSA, EC with P-256 and OKP with Ed25519")
    if "d" in jwk:
        raise BadKey("it is a private key; a gateway needs the public one only")
    if algorithm == "HS256" and not secrets:
        raise BadKey("it is a secret, which nobody may publish")
    try:
        material = _algorithms[algorithm].from_jwk(dict(jwk))
    except (PyJWTError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        raise BadKey("it is malformed") from None
    return (algorithm, _secret(material)) if algorithm == "HS256" else _of_public_key(material)


def _from_pem(content: bytes) -> Any:
    if b"PRIVATE KEY-----" in content:
        raise BadKey("it is a private key; a gateway needs the public one only")
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            return load_pem_x509_certificate(content).public_key()
        return load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("it is no public key in PEM") from None


def _of_public_key(material: Any) -> tuple[str, Any]:
    match material:
        case rsa.RSAPublicKey() if material.key_size in RSA_BITS:
            return "RS256", material
        case ec.EllipticCurvePublicKey() if isinstance(material.curve, ec.SECP256R1):
            return "ES256", material
        case ed25519.Ed25519PublicKey():
            return "EdDSA", material
        case _:
            raise BadKey(f"it is none of RSA ({RSA_BITS.start} to {RSA_BITS.stop - 1} bits), EC with P-256 and Ed25519")
