"""What is wrong with the head of an HTTP request, and the status that says so (RFC 9112, RFC 6455). Pure.

Texts never repeat what the client said: a token may be part of it.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

MAX_LINE: Final = 8_000  # bytes: below each limit that the library has for a line
MAX_FIELDS: Final = 128
ALLOW: Final = (("Allow", "GET"),)
UPGRADE: Final = (("Upgrade", "websocket"),)
VERSION: Final = (*UPGRADE, ("Sec-WebSocket-Version", "13"))

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIRST: Final = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/([0-9])\.([0-9])")
_FIELD: Final = re.compile(rb"(" + _TOKEN + rb"):([\t -~\x80-\xff]*)")
_TARGET: Final = re.compile(rb'/[!"$-~]*|https?://[!"$-~]+', re.IGNORECASE)
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]+")
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
_ONCE: Final = (b"origin", b"authorization", b"sec-websocket-key", b"sec-websocket-version")


class Refusal(msgspec.Struct, frozen=True):
    """The HTTP answer to a request that is not let in; `headers` are those beside the usual ones."""

    status: HTTPStatus
    text: str
    headers: tuple[tuple[str, str], ...] = ()


def retry_after(seconds: int) -> tuple[tuple[str, str], ...]:
    """Return the headers that say in how many seconds it is worth trying again."""
    return (("Retry-After", str(seconds)),)


def _bad(text: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, f"{text}\n")


def early_fault(start: bytes) -> Refusal | None:
    """Return what is wrong with the start of a head that is not whole yet; None: nothing so far."""
    first, line_feed, _ = start.partition(b"\n")
    if not line_feed:
        plain = re.match(_TOKEN, start) or not start
        return None if plain and len(start) <= MAX_LINE else _of_first(first)
    if not first.endswith(b"\r"):
        return _bad("lines of the request end with a line feed alone")
    refusal = _of_first(first[:-1])
    return refusal if refusal and refusal.status is not HTTPStatus.METHOD_NOT_ALLOWED else None


def _of_first(line: bytes) -> Refusal | None:
    if len(line) > MAX_LINE:
        return Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long\n")
    match = _FIRST.fullmatch(line)
    if match is None:
        return _bad("this is no HTTP/1.1 request")
    if (match[3], match[4]) != (b"1", b"1"):
        return Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 is spoken here\n")
    if match[1] != b"GET":
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "the only method is GET\n", ALLOW)
    return None if _TARGET.fullmatch(match[2]) else _bad("the request's target is malformed")


def fault(head: bytes) -> Refusal | None:
    """Return what is wrong with a whole head as HTTP, with the empty line at its end; None: nothing."""
    first, *lines = head[:-4].split(b"\r\n")
    if refusal := _of_first(first):
        return refusal
    if len(lines) > MAX_FIELDS or any(len(line) > MAX_LINE for line in lines):
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many or too long headers\n")
    matches = [_FIELD.fullmatch(line) for line in lines]
    fields = [(match[1].lower(), match[2].strip(b" \t")) for match in matches if match]
    if len(fields) < len(lines):
        return _bad("a header of the request is malformed")
    return _of_fields(fields)


def _of_fields(fields: list[tuple[bytes, bytes]]) -> Refusal | None:
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return _bad("the request needs one `Host`")
    names = [name for name, _ in fields]
    for name in _ONCE:
        if names.count(name) > 1:
            return _bad(f"the request has `{name.decode().title()}` more than once")
    if any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in fields):
        return _bad("a request has no body here")
    return None


def handshake_fault(headers: Mapping[str, str]) -> Refusal | None:
    """Return what is wrong with a good HTTP request as the begin of a WebSocket; None: nothing that is known here.

    `headers` have small names.
    """
    options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
    if "upgrade" not in options or headers.get("upgrade", "").strip().lower() != "websocket":
        return Refusal(HTTPStatus.UPGRADE_REQUIRED, "this is a WebSocket: ask for `Upgrade: websocket`\n", UPGRADE)
    version = headers.get("sec-websocket-version")
    if version is not None and version != "13":
        return Refusal(HTTPStatus.UPGRADE_REQUIRED, "the version of WebSocket is 13\n", VERSION)
    if version is None or not _KEY.fullmatch(headers.get("sec-websocket-key", "").encode("latin-1")):
        return _bad("`Sec-WebSocket-Version` or `Sec-WebSocket-Key` is missing or malformed")
    return None
