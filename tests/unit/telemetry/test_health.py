import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from schemas.errors import TocsinError
from telemetry.health import start_health


async def test_ready_names_what_is_not() -> None:
    reasons: dict[str, str | None] = {"kafka": "no broker", "redis": None}
    checks = {name: lambda name=name: reasons[name] for name in reasons}
    health = await start_health(0, checks, registry=CollectorRegistry())
    async with aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{health.port}/health/ready"
        async with http.get(url) as response:
            assert (response.status, await response.json()) == (
                503,
                {"ready": False, "reasons": {"kafka": "no broker"}},
            )
        reasons["kafka"] = None
        async with http.get(url) as response:
            assert (response.status, await response.json()) == (200, {"ready": True, "reasons": {}})
    await health.close()


async def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    health = await start_health(0, {}, registry=CollectorRegistry())
    with pytest.raises(TocsinError, match=f"metrics port 127.0.0.1:{health.port} cannot be used"):
        await start_health(health.port, {}, registry=CollectorRegistry())
    await health.close()
