"""One user with a hundred devices beside a hundred users with a device each, at the same deliveries a second."""

from urllib.parse import urlsplit

import msgspec

from bench.crowd.driver import Crowd
from bench.measure import cpu_seconds, since
from bench.publish import publish
from bench.targets import SPEECHES
from cli.deployment import Ready
from cli.tokens import make_token

DEVICES = 100
RATE = 2_000.0  # deliveries/s
WARM_UP = 2.0  # s that are not counted
PATIENCE = 60.0  # s
TOPIC = "notifications.normal"


class Result(msgspec.Struct, frozen=True):
    """CPU in s: `own` of workers and gateways, `servers` of the rest; latencies in ms from when a record was due."""

    what: str
    deliveries: int
    own: float
    servers: float
    p50: float
    p99: float
    wrong: int


async def run(ready: Ready, *, seconds: float) -> list[Result]:
    """Measure both. Raises `TimeoutError`."""
    many = await _measure(ready, [(f"u{number}", "phone") for number in range(DEVICES)], DEVICES, 0, seconds)
    one = await _measure(ready, [("u0", f"device-{number}") for number in range(DEVICES)], 1, 10**6, seconds)
    return [
        Result(f"{DEVICES} users with a device each", *many),
        Result(f"one user with {DEVICES} devices", *one),
    ]


async def _measure(
    ready: Ready, devices: list[tuple[str, str]], users: int, first: int, seconds: float
) -> tuple[int, float, float, float, float, int]:
    """Connect devices and send each `RATE` / `DEVICES` entries a second; messages are numbered from `first`."""
    at = urlsplit(ready.gateway)
    tokens = [make_token(ready.secret(), user, device=device) for user, device in devices]
    async with Crowd(SPEECHES["tocsin"], [f"{at.hostname}:{at.port}"], len(devices), tokens=tokens) as crowd:
        opened = await crowd.open(PATIENCE)
        if opened.joined < len(devices):
            raise TimeoutError(f"{len(devices) - opened.joined} clients did not get in")
        for length in (WARM_UP, seconds):
            rounds = round(RATE * length / len(devices))
            used = cpu_seconds(ready.pids)
            await crowd.report()
            where = ("--kafka", ready.kafka, "--topic", TOPIC)
            await publish(*where, rate=RATE * users / DEVICES, rounds=rounds, clients=users, first=first)
            first += rounds
            if not await crowd.expect(first, PATIENCE):
                raise TimeoutError(f"not everything arrived within {PATIENCE:.0f} s")
        seen = await crowd.report()
        spent = since(ready.pids, used)
        own = sum(cpu for name, cpu in spent.items() if name.startswith(("worker", "gateway")))
        servers = sum(spent.values()) - own
        return seen.received, own, servers, seen.percentile(0.5), seen.percentile(0.99), seen.wrong
