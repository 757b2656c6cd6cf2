"""Which keys count, which token is checked by which key, and what no trick of a token changes about that."""

import hmac
import json
import warnings
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.auth import Verifier, token_name
from gateway.claims import Rules
from gateway.keys import ALGORITHMS, MAX_FILE, MAX_KEYS, Keyring, jwks_keys, read_keys, secret_key
from schemas.errors import BadKey, BadToken, SettingsError, UnknownKey
from tests.unit.gateway.tokens import NOW, PRIVATE, by_hand, encoded, jwk, key, pem, public, token, verifier

ASYMMETRIC = ("RS256", "ES256", "EdDSA")
CLAIMS = {"sub": "u1", "exp": NOW + 60}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kid", [None, "k"])
def test_a_token_of_each_algorithm_is_good_the_first_time_and_again(algorithm: str, kid: str | None) -> None:
    judge = verifier(*(key(each, each) for each in ALGORITHMS))
    for _ in range(2):
        assert judge.check(token(algorithm, kid, device="d")).device == "d"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_key_of_the_same_kind_is_not_good(algorithm: str) -> None:
    others: dict[str, Any] = {
        "RS256": rsa.generate_private_key(65_537, 2_048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "HS256": b"the secret of somebody else, which is long enough",
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    judge = verifier(key(algorithm, "k"))
    judge.check(token(algorithm, "k"))
    with pytest.raises(BadToken, match="signature is wrong"):
        judge.check(token(algorithm, "k", by=others[algorithm]))


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
@pytest.mark.parametrize("kid", [None, "k"])
@pytest.mark.parametrize("form", ["pem", "der of the pem", "jwk"])
def test_a_public_key_is_no_secret(algorithm: str, kid: str | None, form: str) -> None:
    material = {
        "pem": pem(public(algorithm)),
        "der of the pem": pem(public(algorithm)).strip(),
        "jwk": json.dumps(jwk(algorithm)).encode(),
    }[form]
    head = {"alg": "HS256"} | ({"kid": kid} if kid else {})
    signed = f"{encoded(head)}.{encoded(CLAIMS)}"
    forged = f"{signed}.{encoded(hmac.digest(material, signed.encode(), 'sha256'))}"
    for judge in (verifier(key(algorithm, "k")), verifier(key(algorithm, "k"), key("HS256", "s"))):
        judge.check(token(algorithm, "k"))
        with pytest.raises(BadToken):
            judge.check(forged)


@pytest.mark.parametrize(
    "head",
    [
        {"alg": "none"},
        {"alg": "NONE"},
        {"alg": ""},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": {"a": 1}},
        {"alg": "HS384"},
        {"alg": "RS512"},
        {"alg": "PS256"},
        {"alg": "ES256K"},
        {"alg": "ES384"},
        {},
        {"alg": "HS256", "kid": 7},
        {"alg": "HS256", "kid": ["s"]},
        {"alg": "HS256", "crit": ["exp"]},
        {"alg": "HS256", "b64": False, "crit": ["b64"]},
        {"alg": "HS256", "kid": "../../dev/null"},
        {"alg": "HS256", "kid": "\ud800"},
        {"alg": "RS256", "jku": "http://evil/keys", "x5u": "http://evil/pem", "kid": "evil"},
        {"alg": "RS256", "jwk": {"kty": "RSA", "n": "3A", "e": "AQAB"}},
        {"alg": "RS256", "x5c": ["MIIB"]},
        [],
        "x",
        7,
    ],
    ids=str,
)
@pytest.mark.parametrize("signature", [b"", b"sig", bytes(64), bytes(256)], ids=["none", "short", "64", "256"])
def test_a_header_by_hand_opens_nothing(head: object, signature: bytes) -> None:
    with pytest.raises(BadToken) as caught:
        verifier(*(key(each, each) for each in ALGORITHMS)).check(by_hand(head, CLAIMS, signature))
    assert str(caught.value).isprintable()


def test_a_signature_of_zeros_is_none() -> None:
    """CVE-2022-21449: r and s of 0 fit every text where nobody looks."""
    for signature in (b"\0" * 64, b"\0" * 63 + b"\1", b"", b"\0" * 128):
        with pytest.raises(BadToken):
            verifier(key("ES256", "k")).check(by_hand({"alg": "ES256", "kid": "k"}, CLAIMS, signature))


def test_the_other_signature_of_es256_is_the_same_token_to_a_revocation() -> None:
    good = token("ES256")
    signed, _, text = good.rpartition(".")
    raw = jwt.utils.base64url_decode(text)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = f"{signed}.{encoded(r.to_bytes(32, 'big') + (order - s).to_bytes(32, 'big'))}"
    assert twin != good
    judge = verifier(key("ES256"))
    assert judge.check(twin) == judge.check(good)
    assert token_name(twin) == token_name(good)
    der = PRIVATE["ES256"].sign(signed.encode(), ec.ECDSA(SHA256()))
    assert decode_dss_signature(der)  # what OpenSSL itself writes is not what a token has
    with pytest.raises(BadToken):
        judge.check(f"{signed}.{encoded(der)}")


# Which key is meant


def test_a_secret_is_rotated_without_anybody_noticing() -> None:
    old, new = b"the secret of before, which is long enough", b"the secret of now, which is long enough"
    judge = verifier(secret_key(new.decode()), secret_key(old.decode(), kid="2025"))
    for secret in (old, new):
        for kid in (None, "2025" if secret == old else "2026"):
            assert judge.check(token("HS256", kid, by=secret)).user == "u1"


def test_a_kid_that_is_known_means_this_key_alone() -> None:
    judge = verifier(key("RS256", "a", named=True), key("ES256", "b", named=True))
    with pytest.raises(BadToken, match="algorithm"):
        judge.check(token("ES256", "a"))
    judge.check(token("ES256", "b"))


def test_a_kid_that_nobody_has_is_named_as_the_reason() -> None:
    with pytest.raises(UnknownKey, match="`kid`"):
        verifier(key("RS256", "a", named=True)).check(token("RS256", "b"))


def test_a_key_without_a_name_of_its_own_answers_for_others() -> None:
    """An issuer's tokens say the `kid` of its own set; who keeps its key as PEM need not know it."""
    assert verifier(key("RS256", "issuer")).check(token("RS256", "0xabc")).user == "u1"


def test_a_key_that_is_taken_away_signs_no_more() -> None:
    ring = Keyring([key("ES256", "a"), key("RS256", "b")])
    judge = Verifier(ring, Rules(), lambda: NOW)
    good = token("ES256", "a")
    judge.check(good)
    ring.give([key("RS256", "b")])
    with pytest.raises(BadToken):
        judge.check(good)
    ring.fetch([key("ES256", "a", named=True)])
    judge.check(good)


# Files


def write(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_keys_come_from_files_of_every_kind(tmp_path: Path) -> None:
    both = json.dumps({"keys": [jwk("RS256", kid="r"), jwk("EdDSA"), jwk("ES256", kid="enc", use="enc")]})
    paths = [
        write(tmp_path, "rsa.pem", pem(public("RS256"))),
        write(tmp_path, "ec.pem", pem(public("ES256"))),
        write(tmp_path, "one.json", json.dumps(jwk("EdDSA", kid="e", alg="EdDSA", use="sig", key_ops=["verify"]))),
        write(tmp_path, "set.json", both),
        write(tmp_path, "old-secret.txt", "s" * 32 + "\n"),
        write(tmp_path, "oct.json", json.dumps(jwk("HS256", b"t" * 32, kid="o"))),
    ]
    assert [(found.algorithm, found.kid, found.named) for found in read_keys(paths)] == [
        ("RS256", "rsa", False),
        ("ES256", "ec", False),
        ("EdDSA", "e", True),
        ("RS256", "r", True),
        ("EdDSA", "set", False),
        ("HS256", "old-secret", False),
        ("HS256", "o", True),
    ]


def test_a_folder_is_all_its_files_but_hidden_ones(tmp_path: Path) -> None:
    write(tmp_path, "b.pem", pem(public("ES256")))
    write(tmp_path, "a.pem", pem(public("RS256")))
    write(tmp_path, ".hidden", "nonsense")
    (tmp_path / "..data").mkdir()
    assert [found.kid for found in read_keys([str(tmp_path)])] == ["a", "b"]


PRIVATE_PEM = PRIVATE["ES256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PRIVATE_JWK = jwt.algorithms.ECAlgorithm.to_jwk(PRIVATE["ES256"], as_dict=True)
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no public key"),
    "short secret": (b"s" * 31, "32 bytes"),
    "two words": (b"s" * 32 + b" " + b"t" * 32, "no public key"),
    "private PEM": (PRIVATE_PEM, "private key"),
    "private JWK": (json.dumps(PRIVATE_JWK).encode(), "private key"),
    "broken PEM": (b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----", "no public key in PEM"),
    "broken certificate": (b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----", "no public key in PEM"),
    "another curve": (pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "P-256"),
    "Ed448": (pem(ed448.Ed448PrivateKey.generate().public_key()), "Ed25519"),
    "a weak RSA": (pem(rsa.generate_private_key(65_537, 1_024).public_key()), "2048"),
    "broken JSON": (b"{", "not JSON"),
    "JSON of another kind": (b'{"keys": 7}', "no JWK"),
    "keys that are none": (b'{"keys": [7]}', "no JWK"),
    "an empty set": (b'{"keys": []}', "no key"),
    "another type": (b'{"kty": "X"}', "`kty`"),
    "a type that is none": (b'{"kty": ["RSA"]}', "`kty`"),
    "a JWK without its parts": (b'{"kty": "RSA"}', "malformed"),
    "a JWK with parts that are none": (b'{"kty": "EC", "crv": "P-256", "x": 1, "y": []}', "malformed"),
    "a point beyond the curve": (b'{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}', "malformed"),
    "another algorithm": (json.dumps(jwk("RS256", alg="RS512")).encode(), "`alg`"),
    "HS256 for RSA": (json.dumps(jwk("RS256", alg="HS256")).encode(), "`alg`"),
    "a key for encryption": (json.dumps(jwk("RS256", use="enc")).encode(), "`use`"),
    "a key that only signs": (json.dumps(jwk("RS256", key_ops=["sign"])).encode(), "`key_ops`"),
    "a kid that is none": (json.dumps(jwk("RS256", kid=7)).encode(), "`kid`"),
    "a short oct": (json.dumps(jwk("HS256", b"s" * 31)).encode(), "32 bytes"),
    "an oct that is PEM": (json.dumps(jwk("HS256", pem(public("ES256")))).encode(), "PEM"),
    "large": (b"x" * (MAX_FILE + 1), "bytes"),
}


@pytest.mark.parametrize(("content", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_gives_no_key_stops_the_start_in_one_line(content: bytes, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path, "key", content)
    with pytest.raises(SettingsError) as caught:
        read_keys([path])
    said = str(caught.value)
    assert said.startswith(f"TOCSIN_KEYS: {path}: ")
    assert reason in said
    assert "\n" not in said
    assert content[:40].decode("latin-1") not in said or len(content) < 2


def test_a_file_that_is_not_there_and_too_many_keys(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_keys([str(tmp_path / "nothing")])
    for number in range(MAX_KEYS + 1):
        write(tmp_path, f"{number}", f"{number:032}")
    with pytest.raises(SettingsError, match="more than"):
        read_keys([str(tmp_path)])


@pytest.mark.parametrize("secret", [pem(public("RS256")).decode(), "ssh-rsa " + "A" * 40, "s" * 31])
def test_a_secret_that_is_a_public_key_or_short_is_refused(secret: str) -> None:
    with pytest.raises(SettingsError, match="TOCSIN_SECRET"):
        secret_key(secret)


def test_a_published_secret_is_no_key() -> None:
    found, reasons = jwks_keys(
        json.dumps({"keys": [jwk("HS256", b"s" * 32), jwk("ES256", kid="e")]}).encode(), source="x", secrets=False
    )
    assert [one.algorithm for one in found] == ["ES256"]
    assert reasons == ["key 1: it is a secret, which nobody may publish"]


def test_no_key_shows_what_it_consists_of() -> None:
    shown = repr(secret_key("s" * 32)) + repr([key(each, each) for each in ALGORITHMS])
    assert "sss" not in shown
    assert PRIVATE["HS256"].decode() not in shown


def test_a_set_of_nonsense_is_read_in_bounded_time() -> None:
    found, _ = jwks_keys(json.dumps({"keys": [jwk("RS256", kid=str(n)) for n in range(500)]}).encode(), source="x")
    assert len(found) == MAX_KEYS
    with pytest.raises(BadKey):
        jwks_keys(b"[" * 100_000, source="x")


def test_the_library_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in ALGORITHMS:
            verifier(key(each)).check(token(each))
