"""Follows the address at which an issuer of tokens publishes its keys (JWKS, RFC 7517).

Only the address of the setting is ever asked: no header of a token names another one, and no redirect leads to one.
What was read stays in force while the address is away.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.keys import Key, Keyring, jwks_keys
from schemas.errors import BadKey, SettingsError

log = logging.getLogger(__name__)

SETTING: Final = "TOCSIN_JWKS"
REFRESH: Final = 300.0  # s between two readings of an address that answers
RETRY: Final = 15.0  # s until an address that did not is tried again
PAUSE: Final = 5.0  # s at least between two readings, however many tokens name unknown keys
WITHIN: Final = 4.0  # s that a reading may take
MOST: Final = 256 * 1024  # bytes of an answer
WAITING: Final = 1_000  # tokens that may wait for a reading
WAITING_EACH: Final = 100  # of them those of one client address or user: nobody takes every place
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

Fetch = Callable[[], Awaitable[bytes]]  # raises `BadKey`


def check_address(url: str) -> None:
    """Raise `SettingsError` for an address that must not be asked for keys: who answers there lets everybody in."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.fragment or parts.username or parts.password:
        raise SettingsError(f"{SETTING} is no address; write https://host/path, without user and password")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise SettingsError(f"{SETTING}: http:// is for this machine only; whoever is between could give other keys")


async def fetch(url: str, tls: ssl.SSLContext | None = None) -> bytes:
    """Return what an address answers. Raises `BadKey` with the reason."""
    try:
        async with (
            asyncio.timeout(WITHIN),
            aiohttp.ClientSession(auto_decompress=False, headers={"Accept-Encoding": "identity"}) as session,
            session.get(url, allow_redirects=False, ssl=tls or True) as answer,
        ):
            if answer.status != 200:
                raise BadKey(
                    f"it answers HTTP {answer.status}{'; redirects are not followed' * (300 <= answer.status < 400)}"
                )
            content = b""
            async for piece in answer.content.iter_chunked(64 * 1024):
                content += piece
                if len(content) > MOST:
                    raise BadKey(f"its answer has more than {MOST} bytes")
    except TimeoutError:
        raise BadKey(f"it did not answer within {WITHIN:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise BadKey(f"it cannot be reached: {_why(exc)}") from None
    return content


def _why(exc: Exception) -> str:
    inner = getattr(exc, "certificate_error", None) or getattr(exc, "os_error", None) or exc
    return str(getattr(inner, "verify_message", "") or getattr(inner, "strerror", "") or type(inner).__name__)


async def read(url: str, tls: ssl.SSLContext | None = None) -> tuple[list[Key], list[str]]:
    """Return the keys that an address publishes, and why others do not count. Raises `BadKey` if it gives none."""
    keys, reasons = jwks_keys(await fetch(url, tls), source=url, secrets=False)
    if not keys:
        raise BadKey("; ".join(reasons[:3]) or "it publishes no key")
    return keys, reasons


class Jwks:
    """Keeps the keys of one address in a ring."""

    def __init__(
        self, url: str, ring: Keyring, tls: ssl.SSLContext | None = None, count: Callable[[str], None] = lambda _: None
    ) -> None:
        """`count` is told each reading, `good` or `failed`."""
        self._url = url
        self._ring = ring
        self._tls = tls
        self._asked = asyncio.Event()
        self._waiting: list[Callable[[bool], None]] = []
        self._places: Counter[str] = Counter()  # of `_waiting`, by who waits
        self._known = False
        self._said: object = None
        self._count = count

    def problem(self) -> str | None:
        """Return why keys are not known, None if they are: also those that were read before the address went away."""
        return None if self._known else f"the keys at {self._url} have not been read yet"

    def again(self, whom: str | None, then: Callable[[bool], None]) -> bool:
        """Read again soon, and call `then` with whether that went well. False: too many wait, `then` is not called.

        `whom` is the address or user that waits, None for who is not counted. Who goes away keeps its place until then.
        """
        if len(self._waiting) >= WAITING or (whom is not None and self._places[whom] >= WAITING_EACH):
            return False
        self._waiting.append(then)
        if whom is not None:
            self._places[whom] += 1
        self._asked.set()
        return True

    async def run(self, tried: Callable[[], None]) -> None:
        """Read now, and again and again until cancelled; `tried` is called after the first time."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            self._asked.clear()
            waiting, self._waiting = self._waiting, []
            self._places.clear()
            good = await self._read()
            for then in waiting:
                try:
                    then(good)
                except Exception:  # one client's trouble is not that of the others
                    log.exception("a token that waited for keys could not be judged")
            tried()
            await asyncio.sleep(max(0.0, begun + PAUSE - loop.time()))
            try:
                async with asyncio.timeout_at(begun + (REFRESH if good else RETRY)):
                    await self._asked.wait()
            except TimeoutError:
                pass

    async def _read(self) -> bool:
        try:
            keys, reasons = await read(self._url, self._tls)
        except BadKey as exc:
            self._count("failed")
            if self._said != str(exc):
                self._said = str(exc)
                log.warning("%s: %s: %s; what was read before stays in force", SETTING, self._url, exc)
            return False
        self._count("good")
        self._known = True
        self._ring.fetch(keys)
        shown = [*(key.shown() for key in keys), *reasons]
        if self._said != shown:
            self._said = shown
            log.info("%s: %s", SETTING, "; ".join(shown))
        return True
