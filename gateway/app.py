"""A gateway process: puts the parts together, starts and ends them in order."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry

from gateway import passing, port
from gateway.admission import Caller
from gateway.bus import Lease, Replies, Subscription
from gateway.config import GatewayConfig
from gateway.desk import Desk
from gateway.door import Door
from gateway.follower import Follower, Source
from gateway.handshake import Handshake
from gateway.hub import Hub
from gateway.keys import given_keys
from gateway.origins import Origins
from gateway.producer import KafkaSender, Sender, Writer
from gateway.reloading import Reload, follow
from gateway.websocket import WebSocket
from schemas import bus
from schemas.addresses import host_port
from schemas.errors import TocsinError
from telemetry.gateway import GatewayMetrics
from telemetry.health import Health, start_health
from telemetry.watchdog import Watch, Watchdog

log = logging.getLogger(__name__)

BACKLOG: Final = 4096  # connections that the kernel keeps until we take them
RETRY: Final = 1.0  # s between tries to reach Kafka at the start
LAST_WORDS: Final = 5.0  # s for closing handshakes, and again for the last records, at the end


class Gateway:
    """One gateway: `start`, then `stop`, which drains. `port`, `metrics_port` and `url` are the real ones when started.

    `sender` writes the records and `source` gives the revocations; without them it is the Kafka that `config` names.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        registry: CollectorRegistry = REGISTRY,
        sender: Sender | None = None,
        source: Source | None = None,
    ) -> None:
        self.config = config
        self.port = config.port
        self.metrics_port = config.metrics_port
        self.hub: Hub
        self._origins = Origins(config.origins)
        self.tasks: list[asyncio.Task[None]] = []  # they end only with the gateway
        self._metrics = GatewayMetrics(registry)
        self._registry = registry
        self._sender: Sender = sender or KafkaSender(
            config.kafka, config.topic, config.acks, idempotent=config.idempotence
        )
        self._source: Source = source or Follower(config.kafka, config.revocations)
        self._connections: set[WebSocket] = set()
        self._leaving: asyncio.Event | None = None  # set once the last connection has ended
        self._not_ready: str | None = "the gateway is starting"
        self._health: Health | None = None
        self._server: asyncio.Server | None = None
        self._writer: Writer | None = None
        self._subscription = Subscription(
            config.redis, [bus.gateway_channel(config.prefix, config.id), bus.beat_channel(config.prefix)]
        )
        self._replies = Replies(config.redis)
        self._lease = Lease(config.redis, config.prefix, config.id, self._state)

    @property
    def url(self) -> str:
        """What clients use to reach this gateway."""
        return self.config.url or f"{'wss' if self.config.tls else 'ws'}://{host_port(self.config.host, self.port)}"

    def closed(self) -> str | None:
        """Return why no session is taken now, None if they are."""
        if self.hub.draining:
            return "the gateway is stopping"
        if len(self._connections) > self.config.sessions:
            return "the gateway is full"
        return None

    def _state(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "machine": port.machine(),
            "port": self.port,
            "sessions": len(self.hub.sessions),
            "partitions": self.hub.dispatch.feed.owners(),
        }

    def _problems(self) -> dict[str, Callable[[], str | None]]:
        return {
            "gateway": lambda: self._not_ready or self.closed(),
            "redis": lambda: self._subscription.problem,
            "kafka": lambda: self._writer.problem() if self._writer else "not connected to Kafka yet",
            "revocations": self._source.problem,
            "keys": self._problem_of_keys,
        }

    def _problem_of_keys(self) -> str | None:
        if self._not_ready or self.hub.jwks is None:
            return None
        return self.hub.jwks.problem()

    # Start

    async def start(self) -> None:
        """Come up: health, Kafka, the bus, and only then the port for clients.

        Waits for servers that are not there. Raises `TocsinError` if a port is taken.
        """
        self._health = await start_health(
            self.config.metrics_port, self._problems(), host=self.config.metrics_host, registry=self._registry
        )
        self.metrics_port = self._health.port
        partitions = await self._reach_kafka()
        self.hub = Hub(self.config, partitions, self._metrics, asyncio.get_running_loop().time, self._wake)
        self._writer = Writer(self.hub.outbox, self._sender, self._metrics)
        desk = Desk(self.hub, self._replies.publish)
        await self._follow_bus(desk)
        await self._follow_revocations(desk)
        await self._follow_keys()
        await port.require(self.config.host, self.config.port, self._lease.others)
        await self._listen()
        self._not_ready = None
        log.info("gateway %s listens on %s, metrics on port %d", self.config.id, self.url, self.metrics_port)
        log.info("deliveries go through %s", passing.LANGUAGE)

    def _wake(self) -> None:
        if self._writer is not None:
            self._writer.wake()

    async def _reach_kafka(self) -> int:
        said = ""
        while True:
            try:
                return await self._sender.start()
            except TocsinError as exc:
                if str(exc) != said:
                    said = self._not_ready = str(exc)
                    log.warning("waiting: %s", exc)
            await asyncio.sleep(RETRY)

    async def _follow_bus(self, desk: Desk) -> None:
        """Subscribe, and wait until that is done: the answer to a session must not be missed."""
        listening = asyncio.Event()

        def began() -> None:
            listening.set()
            self.hub.dispatch.suspect_all(self.hub.clock())

        self._spawn(self._subscription.run(began, desk.take))
        self._not_ready = "waiting for Redis"
        await listening.wait()

    async def _follow_revocations(self, desk: Desk) -> None:
        """Read all of them, and wait until that is done: a token that was revoked must not be let in."""
        known = asyncio.Event()
        self._spawn(self._source.run(desk.revoke, known.set))
        self._not_ready = "waiting for the revocations"
        await known.wait()

    async def _follow_keys(self) -> None:
        """Read the published keys, and wait until that was tried once: most tokens are good at once then."""
        reloads: list[Reload[Any]] = []
        if self.config.key_files:
            load = partial(given_keys, self.config.secret, self.config.key_files)
            reloads.append(Reload("TOCSIN_KEYS", self.config.key_files, load, self.hub.ring.give))
        if self.config.tls is not None:
            reloads.append(self.config.tls.reload())
        if reloads:
            self._spawn(follow(reloads))
        if self.hub.jwks is not None:
            tried = asyncio.Event()
            self._spawn(self.hub.jwks.run(tried.set))
            self._not_ready = "waiting for the keys of tokens"
            await tried.wait()

    async def _listen(self) -> None:
        handshake = Handshake(self._origins, self)

        def accept(caller: Caller | None = None) -> WebSocket:
            return WebSocket(self.hub, handshake, self, caller)

        def answer() -> asyncio.Protocol:
            return accept() if self.config.tls is None else Door(self.hub, self.config.tls.context, accept)

        host = self.config.host
        try:
            self._server = await asyncio.get_running_loop().create_server(
                answer, host, self.config.port, reuse_port=True, backlog=BACKLOG
            )
        except OSError as exc:
            raise TocsinError(
                f"the port {host_port(host, self.config.port)} cannot be used: {exc.strerror or exc}"
            ) from None
        self.port = int(self._server.sockets[0].getsockname()[1])
        with contextlib.suppress(TocsinError):  # the task tries again and says so
            await self._lease.renew()
        self._spawn(self._lease.run())
        self._spawn(self.hub.run())

    def listed(self, socket: WebSocket) -> None:
        """Keep a connection until it has ended."""
        self._connections.add(socket)

    def unlisted(self, socket: WebSocket) -> None:
        """Let go of a connection that has ended."""
        self._connections.discard(socket)
        if not self._connections and self._leaving is not None:
            self._leaving.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    # Stop

    async def stop(self) -> None:
        """Take no more clients, send those that are here away, write what waits, and end."""
        if self._server is not None:
            self._server.close()
            await self.hub.drain(self.config.drain)
            await self._last_words()
        await self.abandon()

    async def _last_words(self) -> None:
        """Wait for clients to answer the close, then for Kafka to have that they are gone."""
        self._leaving = asyncio.Event()
        if self._connections:
            with contextlib.suppress(TimeoutError):  # `abandon` ends those that do not answer
                await asyncio.wait_for(self._leaving.wait(), LAST_WORDS)
        if self._writer is not None and not await self._writer.flush(LAST_WORDS):
            log.warning("Kafka did not take the last %d items", self.hub.outbox.waiting())

    async def abandon(self) -> None:
        """End at once."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()
        await self._lease.release()
        await self._replies.close()
        await self._sender.stop()
        if self._health is not None:
            await self._health.close()


async def serve(config: GatewayConfig) -> None:
    """Run a gateway until SIGTERM or SIGINT, which drain it. Raises what ended one of its parts."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    with Watchdog(Watch(config.stuck), "gateway"):
        await _serve(Gateway(config), asked)


async def _serve(gateway: Gateway, asked: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    stopping = loop.create_task(asked.wait())
    starting = loop.create_task(gateway.start())
    await asyncio.wait([stopping, starting], return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            starting.result()
            # What lives now lives long: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)
            done, _ = await asyncio.wait([stopping, *gateway.tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await gateway.stop()
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await gateway.abandon()
