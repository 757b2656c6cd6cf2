"""The hub: what a bus that loses much costs."""

import asyncio

from prometheus_client import CollectorRegistry

from gateway.auth import Claims
from gateway.config import GatewayConfig
from gateway.dispatch import RESYNC
from gateway.hub import Hub
from gateway.passing import Way
from schemas.bus import Beat
from telemetry.gateway import GatewayMetrics

SESSIONS = 3 * RESYNC


class Transport:
    """A way out that takes everything."""

    kind = "ws"
    slot = 0
    way = Way(lambda data: None, lambda: 0, -1)

    def visit(self, now: float) -> float:
        return now + 60

    def send(self, frames: list[bytes]) -> int:
        return 0

    def close(self, code: int, reason: str) -> None:
        pass

    def abort(self) -> None:
        pass


def test_a_session_waits_once_to_be_synced_however_often_messages_are_lost() -> None:
    registry = CollectorRegistry()
    config = GatewayConfig(id="g1", kafka={}, redis="", secret="s" * 32)
    hub = Hub(config, 1, GatewayMetrics(registry), lambda: 0.0, lambda: None)
    for number in range(SESSIONS):
        hub.admit(Transport(), Claims(f"u{number}", "phone", 60.0), hello=False, now=0.0)

    async def lose() -> None:
        for number in range(1, 101):
            await hub.dispatch.take(Beat("w1", {0: 1}, {"g1": number}))

    asyncio.run(lose())
    assert hub.dispatch.suspects <= SESSIONS
    for _ in range(SESSIONS // RESYNC):
        hub.dispatch.tick(0.0)
    assert not hub.dispatch.suspects
