"""The worst days: workers and gateways killed or frozen in mid-load; nothing acknowledged is lost or shown twice."""

import asyncio
import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.device import Device
from bench.load import Load
from bench.swarm import Swarm, until
from tests.system import System, start, stop

RATE = 300  # records a second
USERS = [f"u{i}" for i in range(100)]
RECOVERY = 60.0  # s in which everything has to have arrived after the last fault


@pytest.fixture
async def deployment(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[System]:
    options = getattr(request, "param", ())
    running = await asyncio.to_thread(start, tmp_path, "--stack", "real", *options, TOCSIN_SESSION_TIMEOUT="6")
    yield running
    await asyncio.to_thread(stop, running.process)


@contextlib.asynccontextmanager
async def connected(system: System, users: list[str], devices: tuple[str, ...]) -> AsyncIterator[Swarm]:
    swarm = Swarm(str(system.ready["gateway"]), system.secret)
    acks = asyncio.create_task(swarm.acknowledge_for_ever())
    try:
        await swarm.join((user, device) for user in users for device in devices)
        yield swarm
    finally:
        acks.cancel()
        await swarm.leave()


def lacking(swarm: Swarm, load: Load) -> list[Device]:
    return [d for d in swarm.devices if len(d.ids) < len(load.acknowledged[d.user])]


async def settle(swarm: Swarm, load: Load) -> None:
    """Wait until every device has every acknowledged record, then check that it has them once and in order."""
    with contextlib.suppress(TimeoutError):
        await until(lambda: not lacking(swarm, load), RECOVERY, "every device has everything")
    wrong = [
        f"{d.user}/{d.name}: {len(d.ids)} of {len(load.acknowledged[d.user])}"
        for d in swarm.devices
        if d.ids != load.acknowledged[d.user]
    ]
    assert not swarm.faults, swarm.faults[:5]
    assert not wrong, (len(wrong), wrong[:5])


async def pid_after(system: System, name: str, before: int) -> int:
    await until(lambda: system.pids().get(name, before) != before, 30, f"{name} was restarted")
    return system.pids()[name]


async def ready(system: System, name: str) -> None:
    address = str(json.loads((system.folder / "ready.json").read_text())["metrics"][name]).removesuffix("/metrics")

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/health/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    for _ in range(300):
        if await asyncio.to_thread(answers):
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"{name} did not become ready")


async def test_a_worker_killed_five_times_in_mid_load_loses_and_repeats_nothing(deployment: System) -> None:
    async with connected(deployment, USERS, ("phone", "web")) as swarm, Load(deployment.kafka) as load:
        producing = asyncio.create_task(load.steady(RATE, 40, lambda i: USERS[i * 7 % len(USERS)]))
        pid = deployment.pids()["worker-inbox"]
        for _ in range(5):
            received = swarm.received
            await until(lambda received=received: swarm.received > received + 200, 60, "entries arrive")  # type: ignore[misc]  # a lambda with a default
            os.kill(pid, signal.SIGKILL)
            pid = await pid_after(deployment, "worker-inbox", pid)
        await producing
        await settle(swarm, load)
        assert load.count >= RATE * 39


@pytest.mark.parametrize("deployment", [("--gateways", "2")], indirect=True)
async def test_a_gateway_killed_with_500_clients_loses_and_repeats_nothing(deployment: System) -> None:
    users = [f"u{i}" for i in range(500)]
    async with connected(deployment, users, ("phone",)) as swarm, Load(deployment.kafka) as load:
        producing = asyncio.create_task(load.steady(RATE, 12, lambda i: users[i * 7 % len(users)]))
        await until(lambda: swarm.received > 500, 30, "entries arrive")
        os.kill(deployment.pids()["gateway-0"], signal.SIGKILL)
        await until(lambda: swarm.reconnects > 0, 10, "clients notice")
        await producing
        await settle(swarm, load)
        assert all(device.welcomed for device in swarm.devices)


@pytest.mark.parametrize("deployment", [("--workers", "2")], indirect=True)
async def test_a_worker_frozen_beyond_its_session_timeout_and_thawed_loses_and_repeats_nothing(
    deployment: System,
) -> None:
    async with connected(deployment, USERS, ("phone", "web")) as swarm, Load(deployment.kafka) as load:
        producing = asyncio.create_task(load.steady(RATE, 35, lambda i: USERS[i * 7 % len(USERS)]))
        await until(lambda: swarm.received > 1_000, 30, "entries arrive")
        name = next(name for name in sorted(deployment.pids()) if name.startswith("worker"))
        zombie = deployment.pids()[name]
        os.kill(zombie, signal.SIGSTOP)
        try:
            await asyncio.sleep(10)  # the fault itself: longer than the session timeout of 6 s
        finally:
            os.kill(zombie, signal.SIGCONT)
        await producing
        await settle(swarm, load)
