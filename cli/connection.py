"""Keeps one device connected: hello with cursors, acknowledgements in bundles, coming back as close codes say."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from ssl import SSLCertVerificationError
from typing import Final
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from cli.device import Device, Step
from cli.kafka import Unreachable
from schemas.errors import BadToken, TocsinError

ACK_EVERY: Final = 0.1  # s in which acknowledgements are gathered
FIRST_DELAY: Final = 0.2  # s, doubled with each attempt that fails
LONGEST_DELAY: Final = 10.0  # s
SLOWED: Final = 5.0  # s at least after what says "too fast" or "too many"
NEW_TOKEN, TOO_FAST, TOO_MANY, BAD_TOKEN = 4005, 4006, 4007, 4101
TERMINAL: Final = range(4100, 4200)


class Ended(TocsinError):
    """The gateway ended the session and said that coming back is of no use."""


class _NotHandled(Exception):
    """`on_step` raised its cause, which may look like a fault of the network and is none."""


def back_off(attempt: int, roll: float) -> float:
    """Return the pause before an attempt (from 0), in s: doubled each time, half of it by chance (`roll` in 0..1).

    A gateway that dies sends thousands of clients away at once; chance spreads their return.
    """
    whole = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt, 16))
    return whole / 2 + whole / 2 * roll


def pause_after(code: int, attempt: int, roll: float, reason: str = "") -> float:
    """Return the pause after a close code, in s. Raises `Ended` for a code that says not to come back."""
    if code in TERMINAL:
        raise Ended(f"the gateway ended the session with code {code}{': ' * bool(reason)}{ascii(reason)[1:-1]}")
    if code == NEW_TOKEN:
        return 0.0 if attempt == 0 else back_off(attempt, roll)
    return max(SLOWED, back_off(attempt, roll)) if code in (TOO_FAST, TOO_MANY) else back_off(attempt, roll)


class Connection:
    """One device's connection to a gateway, made again until the task is cancelled or the gateway says no.

    `token` gives a token for each attempt; `on_step` is called with what each frame brought, and returns when that may
    be acknowledged; `say` is told what happens to the connection.
    """

    def __init__(
        self,
        url: str,
        device: Device,
        *,
        token: Callable[[], str],
        on_step: Callable[[Step], Awaitable[None]],
        say: Callable[[str], None],
        device_id: str | None = None,
    ) -> None:
        self._url = url
        self._device = device
        self._device_id = device_id
        self._token = token
        self._on_step = on_step
        self._say = say
        self._due = asyncio.Event()
        self._wait: float | None = None  # s that the gateway asked for before it went away
        self._attempt = 0

    async def run(self) -> None:
        """Stay connected. Raises `Unreachable` at the first attempt, `BadToken`, `Ended`, and what `on_step` raises."""
        try:
            await self._stay()
        except _NotHandled as exc:
            raise exc.__cause__ or exc from None

    async def _stay(self) -> None:
        connected = False
        while True:
            try:
                async with connect(self._address(), compression=None, max_size=2**20, open_timeout=10) as socket:
                    connected = True
                    code, reason = await self._session(socket)
            except InvalidStatus as exc:
                pause = self._refused(exc.response.status_code, connected=connected)
            except SSLCertVerificationError as exc:
                raise Unreachable(
                    f"the gateway at {self._url} has a certificate that is not good: {exc.verify_message} "
                    "(SSL_CERT_FILE names the authorities, if not the system's)"
                ) from exc
            except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as exc:
                if not connected:
                    raise self._unreachable() from exc
                pause = self._next_pause(1006)
            else:
                pause = self._next_pause(code, reason)
            self._say(f"connection lost; back in {pause:.1f} s")
            await asyncio.sleep(pause)

    def _address(self) -> str:
        return f"{self._url}?{urlencode({'token': self._token(), 'hello': 1})}"

    def _unreachable(self) -> Unreachable:
        return Unreachable(
            f"no gateway answers at {self._url} (TOCSIN_URL); is it running? `tocsin up --stack embedded` starts one"
        )

    def _refused(self, status: int, *, connected: bool) -> float:
        if status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS:
            raise Ended(f"the gateway at {self._url} answered HTTP {status}")
        if not connected:
            self._say(f"the gateway is not ready (HTTP {status})")
        return self._next_pause(1013 if status >= 500 else TOO_FAST)

    def _next_pause(self, code: int, reason: str = "") -> float:
        pause = pause_after(code, self._attempt, random.random(), reason)  # noqa: S311 - spreads clients, protects nothing
        self._attempt += 1
        if self._wait is not None:
            pause, self._wait = self._wait, None
        return pause

    async def _session(self, socket: ClientConnection) -> tuple[int, str]:
        """Serve one connection until it closes; return its close code and the reason."""
        self._due.clear()
        acks = asyncio.create_task(self._acknowledge(socket))
        try:
            with contextlib.suppress(ConnectionClosed):  # the code says how
                await socket.send(self._device.hello(self._device_id))
                async for text in socket:
                    await self._receive(socket, text)
        finally:
            acks.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await acks
        if socket.close_code == BAD_TOKEN:
            raise BadToken(f"the gateway refused the token: {ascii(socket.close_reason or '')[1:-1]}")
        return socket.close_code or 1006, socket.close_reason or ""

    async def _receive(self, socket: ClientConnection, text: str | bytes) -> None:
        try:
            step = self._device.receive(text)
        except msgspec.MsgspecError as exc:
            self._say(f"a frame was not understood: {exc}")
            return
        self._attempt = 0
        if step.reconnect is not None:
            self._wait = step.reconnect / 1000
        try:
            await self._on_step(step)
        except Exception as exc:
            raise _NotHandled from exc
        for answer in step.answers:
            await socket.send(answer)
        self._due.set()

    async def _acknowledge(self, socket: ClientConnection) -> None:
        while True:
            await self._due.wait()
            await asyncio.sleep(ACK_EVERY)
            self._due.clear()
            for ack in self._device.acks():
                await socket.send(ack)
