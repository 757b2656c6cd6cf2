"""Hostile inputs: seeds that are right, changed at random, and JSON grown from a grammar that knows our field names.

Everything follows from one `random.Random`, so an input is found again by its seed.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

TOKENS: Final = (
    b"null", b"true", b"-1", b"0", b"1e400", b"-0.0", b"1" * 40, b"1" * 5_000, b"9007199254740992",
    b"9223372036854775808", b"18446744073709551616", b"NaN", b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\u0000"', b"\xff",
    b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"[" * 3_000, b'{"a":' * 1_500, b"[]", b"{}", b'""', b"\x00",
    b"\r\n", b"\n", b",", b":", b'"', b"\\", b"%00", b"%ff", b"//[", b"http://[", b"inbox/normal", b"inbox/bulk",
    b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"', b'"2030-02-30T00:00:00Z"',
)  # fmt: skip
FIELDS: Final = (
    "type", "id", "user", "device", "epoch", "cursors", "client", "client_id", "log", "seq", "after", "limit", "token",
    "kind", "title", "body", "data", "expires_at", "collapse_key", "channels", "v", "replayed", "session", "gateway",
    "transport", "acks", "syncs", "sessions", "partition", "sub", "exp", "iat", "nbf", "jti", "at", "until",
)  # fmt: skip
WORDS: Final = (
    "hello", "ack", "read", "sync", "refresh", "ping", "connected", "disconnected", "acks", "announce", "inbox/normal",
    "inbox/critical", "inbox/bulk", "u1", "phone", "", "x" * 300, "\x00", "\u202e", "é", "2030-01-01T00:00:00Z",
    "2030-01-01T00:00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "1970-01-01T00:00:00Z",
)  # fmt: skip
NUMBERS: Final = (0, 1, -1, 2, 500, 1_000, 1_001, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, 0.5, -1e308, 1e-320)


def inputs(rng: random.Random, seeds: Sequence[bytes], grown: Callable[[random.Random], bytes] | None) -> bytes:
    """Return the next input: a seed changed one to eight times, or one that was grown."""
    if grown is not None and rng.random() < 0.4:
        data = grown(rng)
        return data if rng.random() < 0.8 else changed(rng, data, seeds)
    data = rng.choice(seeds)
    for _ in range(1 << rng.randrange(4)):
        data = changed(rng, data, seeds)
    return data


def changed(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Return the data with one change."""
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 64)))
    match rng.randrange(8):
        case 0:
            return data[:at] + data[to:]
        case 1:
            return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5))) + data[to:]
        case 2:
            return data[:at] + rng.choice(TOKENS) + data[at:]
        case 3:
            return data[:at] + rng.choice(TOKENS) + data[to:]
        case 4:
            return data[:to] + data[at:to] * rng.choice((1, 2, 50)) + data[to:]
        case 5:
            other = rng.choice(seeds)
            return data[:at] + other[rng.randrange(len(other) + 1) :]
        case 6 if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case _:
            return _value_replaced(rng, data)


def _value_replaced(rng: random.Random, data: bytes) -> bytes:
    """Return the JSON object with another value in one of its fields; what is none is cut off."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return data[: len(data) // 2]
    if not isinstance(found, dict):
        return data[: len(data) // 2]
    found[rng.choice([*found, rng.choice(FIELDS)])] = value(rng)
    return written(found)


def value(rng: random.Random, depth: int = 0) -> Any:
    """Return a JSON value of any kind."""
    match rng.randrange(9 if depth < 3 else 6):
        case 0:
            return rng.choice((None, True, False))
        case 1 | 2:
            return rng.choice(NUMBERS)
        case 3 | 4:
            return rng.choice(WORDS)
        case 5:
            return "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0xD800), 0x1F600))) for _ in range(6))
        case 6:
            return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case _:
            return {rng.choice((*FIELDS, *WORDS)): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def written(found: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogatepass")


def grown_object(rng: random.Random, types: Sequence[str], fields: Sequence[str]) -> bytes:
    """Return a JSON object with some of the fields, `type` among them if there are types."""
    found = {name: value(rng) for name in rng.sample(fields, rng.randrange(len(fields) + 1))}
    if types and rng.random() < 0.95:
        found["type"] = rng.choice(types)
    return written(found)
