"""What a notification says, as 8 bytes: two records under one id are a repeat if these are the same.

Content is every field but `user` and `id`, by what it means and not by how it is written. `expires_at` is an instant,
`channels` a set, and `data` a JSON value: white space, the order of keys, escapes in strings and the notation of
numbers make no difference. Numbers are compared by their exact value, however large, and of a key that an object has
twice the last counts.
"""

import json
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import msgspec

from schemas.errors import BadRecord
from schemas.records import Notification

DIGEST: Final = 8  # bytes
EXACT: Final = 16  # characters of a fraction that a float tells from all others: 15 digits and a point
PLAIN: Final = 64  # digits of a number that is written out; longer ones are written with an exponent
LONGEST_EXPONENT: Final = 4_000  # digits; a number with a longer one is compared as it is written

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG: Final = b"0" * (PLAIN + 1)

_encode = msgspec.json.Encoder(order="deterministic").encode


def digest(note: Notification) -> bytes:
    """Return a hash of the content. Raises `BadRecord` if `data` is nested too deeply."""
    expires = None if note.expires_at is None else (note.expires_at - _EPOCH) // _MICROSECOND
    channels = None if note.channels is None else sorted(set(note.channels))
    said = _encode((note.kind, note.title, note.body, note.device, expires, note.collapse_key, channels, note.replayed))
    if note.data is not msgspec.UNSET:
        said += canonical(bytes(note.data))
    return blake2b(said, digest_size=DIGEST).digest()


def canonical(data: bytes) -> bytes:
    """Return one form for all JSON texts that say the same, nothing for `null`.

    Raises `BadRecord` if it is nested too deeply.
    """
    if data == b"null":
        return b""
    try:
        return _encode(_decoded(data))
    except RecursionError:
        raise BadRecord("bad_request", "`data` is nested too deeply") from None


def _decoded(data: bytes) -> Any:
    if len(data) > PLAIN and _LONG in data.translate(_DIGITS_ALIKE):  # an integer that msgspec would not hand over
        return json.loads(data, parse_int=_number, parse_float=_number)
    return _decode(data)


def _number(text: str) -> Any:
    """Return a number by its exact value, in one form for all ways to write it.

    It is an integer or a float where these are exact, else the digits and a power of ten.
    """
    if len(text) <= EXACT and "." in text and "e" not in text and "E" not in text:
        value = float(text)
        return int(value) if value.is_integer() else value
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    written = (whole + fraction).lstrip("0")
    digits = written.rstrip("0")
    raised = exponent.lstrip("+-0") or "0"
    if not digits:
        return 0
    if len(raised) > LONGEST_EXPONENT:
        return msgspec.Raw(text.lower().encode())
    power = (-int(raised) if exponent.startswith("-") else int(raised)) - len(fraction) + len(written) - len(digits)
    return _of_digits("-" if mantissa.startswith("-") else "", digits, power)


def _of_digits(sign: str, digits: str, power: int) -> Any:
    """Return the number `digits` times ten to the `power`; `digits` neither begins nor ends with a zero."""
    if power >= 0 and len(digits) + power <= PLAIN:
        return int(sign + digits) * 10**power
    if power < 0 and max(len(digits), 1 - power) < EXACT - len(sign):  # written out it would be a float, see above
        return float(f"{sign}{digits}e{power}")
    return msgspec.Raw(f"{sign}{digits}e{power}".encode())


_decode = msgspec.json.Decoder(float_hook=_number).decode
