"""Which web pages may connect. What is no browser sends no origin and is let in: it has the token, and no cookies."""

import logging
import re
import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from schemas.errors import SettingsError

log = logging.getLogger(__name__)

SETTING: Final = "TOCSIN_ORIGINS"
SAME, LOOPBACK, ALL, NULL = "same", "loopback", "*", "null"
WORDS: Final = frozenset((SAME, LOOPBACK, ALL, NULL))
PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
UNSURE: Final = frozenset("ßς\u200c\u200d")  # browsers and this module would write them differently in ASCII
KNOWN: Final = 256  # pages and hosts whose verdict is remembered
SHOWN: Final = 256  # characters of an origin that the log shows
NAMED: Final = 8  # origins that the log names per minute
MINUTE: Final = 60.0  # s

_PLACE: Final = r"(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]\\,*]+)(?::([0-9]{1,5}))?"
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://" + _PLACE, re.IGNORECASE)
_HOST: Final = re.compile(_PLACE, re.IGNORECASE)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


class Origin(NamedTuple):
    """A scheme, a host and a port, in the one form that two of the same have; the port is None where none is known."""

    scheme: str
    host: str
    port: int | None

    def loopback(self) -> bool:
        """Tell whether it is a page of this machine."""
        if self.scheme not in ("http", "https"):
            return False
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


def origin_of(text: str) -> Origin | None:
    """Return what an `Origin` says; None: it says nothing that can be compared, as `null` does."""
    match = _ORIGIN.fullmatch(text)
    if match is None or (host := _host(match[2])) is None:
        return None
    scheme = match[1].lower()
    port = int(match[3]) if match[3] else PORTS.get(scheme)
    return None if port is not None and port > 65_535 else Origin(scheme, host, port)


def _host(text: str) -> str | None:
    """Return a host as every spelling of it is written here: small, in ASCII, without a dot at the end."""
    if text.startswith("["):
        try:
            return f"[{IPv6Address(text[1:-1]).compressed}]"
        except ValueError:
            return None
    name = text.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return None
    if name.rpartition(".")[2].isdecimal():
        try:
            return str(IPv4Address(name))
        except ValueError:
            return None
    return name if len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split(".")) else None


class Origins:
    """The pages that `setting` allows, by commas: origins, `same`, `loopback`, `null` and `*`; empty: `same`.

    Raises `SettingsError` for what no page can have, with what to write instead. `clock` is any steady clock in s.
    """

    def __init__(self, setting: str, clock: Callable[[], float] = time.monotonic) -> None:
        listed = [word.strip().rstrip("/") for word in setting.split(",") if word.strip()]
        self._words = WORDS & {word.lower() for word in listed} if listed else frozenset((SAME,))
        self._origins = frozenset(_meant(word) for word in listed if word.lower() not in WORDS)
        self._setting = setting
        self._clock = clock
        self._known = lru_cache(KNOWN)(self._judge)  # mostly the same few pages come
        self._named: dict[str, float] = {}  # when the log named an origin last
        self._unnamed = 0

    def allow(self, origin: str | None, host: str | None) -> bool:
        """Tell whether a page of `origin` may connect to `host` (the header, with port where it has one)."""
        return origin is None or self._known(origin, host)

    def _judge(self, origin: str, host: str | None) -> bool:
        if ALL in self._words:
            return True
        if origin == NULL:
            return NULL in self._words
        page = origin_of(origin)
        if page is None:
            return False
        return (
            page in self._origins
            or (SAME in self._words and _is_host(page, host or ""))
            or (LOOPBACK in self._words and page.loopback())
        )

    def note_refused(self, origin: str) -> None:
        """Write a refused origin to the log: each once per minute, and at most `NAMED` of them."""
        now = self._clock()
        self._named = {name: at for name, at in self._named.items() if now - at < MINUTE}
        shown = ascii(origin[:SHOWN])[1:-1]
        if shown in self._named:
            return
        if len(self._named) >= NAMED:
            self._unnamed += 1
            return
        self._named[shown] = now
        more = f" ({self._unnamed} refusals of other origins were not named)" if self._unnamed else ""
        self._unnamed = 0
        log.warning("pages of %s may not connect: %s is %s%s", shown, SETTING, self._setting or "empty: same", more)


def _is_host(page: Origin, host: str) -> bool:
    """Tell whether a page lies on the host it connects to; without a port both have that of the page's scheme."""
    match = _HOST.fullmatch(host)
    if match is None or _host(match[1]) != page.host:
        return False
    return (int(match[2]) if match[2] else PORTS.get(page.scheme)) == page.port


def _meant(word: str) -> Origin:
    origin = origin_of(word)
    sockets = origin is not None and origin.scheme in ("ws", "wss")
    if origin is None or sockets or UNSURE & set(word):
        raise SettingsError(f"{SETTING}: {ascii(word)[1:-1]} matches no page; {_advice(word, origin)}")
    return origin


def _advice(word: str, origin: Origin | None) -> str:
    if origin is not None and origin.scheme in ("ws", "wss"):
        return f"an origin is that of the page, not of the socket: write http{origin.scheme[2:]}://{word.partition('://')[2]}"
    if "*" in word:
        return "a part of a name cannot stand for others: list each origin, or write * for all"
    scheme, separator, rest = word.partition("://")
    if not separator and origin_of(f"https://{word}"):
        return f"an origin has a scheme: write https://{word}"
    place = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
    if separator and place != rest and origin_of(f"{scheme}://{place}"):
        return f"an origin ends after host and port: write {scheme}://{place}"
    if not word.isascii():
        return "write the host in Punycode (xn--…)"
    return "write scheme://host or scheme://host:port, such as https://app.example"
