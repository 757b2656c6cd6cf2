"""The small HTTP port of every process: `/metrics`, `/health/live` and `/health/ready`."""

import json
from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from schemas.addresses import bare, host_port
from schemas.errors import TocsinError

Check = Callable[[], str | None]  # why the process is not ready, None if it is


class Health:
    """A running health server; `port` is where it listens."""

    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self._runner = runner
        self.port = port

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()


async def start_health(
    port: int, checks: Mapping[str, Check], *, host: str = "127.0.0.1", registry: CollectorRegistry = REGISTRY
) -> Health:
    """Listen on `port` (0: a free one) and return the running server.

    `/health/ready` answers 503 with the reasons, by name, while a check gives one. Raises `TocsinError` if the port is
    taken.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(_: web.Request) -> web.Response:
        reasons = {name: reason for name, check in checks.items() if (reason := check()) is not None}
        body = json.dumps({"ready": not reasons, "reasons": reasons})
        return web.Response(text=body, status=503 if reasons else 200, content_type="application/json")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/health/live", live), web.get("/health/ready", ready)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, bare(host), port).start()
    except OSError as exc:
        await runner.cleanup()
        raise TocsinError(f"the metrics port {host_port(host, port)} cannot be used: {exc.strerror or exc}") from None
    return Health(runner, int(runner.addresses[0][1]))
